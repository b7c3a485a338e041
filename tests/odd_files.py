"""Small files of formats that only the fields need, made for tests and for the fuzzers."""
import io

from PIL import Image


def tiny_font(path):
    "Write a font with one coloured picture for each of two characters, and one for both in a row."
    from fontTools.feaLib.builder import addOpenTypeFeaturesFromString
    from fontTools.fontBuilder import FontBuilder
    from fontTools.ttLib import newTable
    from fontTools.ttLib.tables import BitmapGlyphMetrics, C_B_D_T_, E_B_L_C_
    names, made = ["a", "b", "ab"], FontBuilder(1024, isTTF=True)
    made.setupGlyphOrder([".notdef", *names])
    made.setupCharacterMap({0x1F600: "a", 0x1F601: "b"})
    made.setupGlyf({name: _empty() for name in [".notdef", *names]})
    made.setupHorizontalMetrics({name: (1024, 0) for name in [".notdef", *names]})
    made.setupHorizontalHeader(); made.setupNameTable({"familyName": "it"}); made.setupOS2(); made.setupPost()
    addOpenTypeFeaturesFromString(made.font, "feature ccmp { sub a b by ab; } ccmp;")
    shown = {}
    for name, colour in zip(names, ((255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 0))): # the last one is clear
        content, it = io.BytesIO(), C_B_D_T_.cbdt_bitmap_format_17(b"", made.font)
        Image.new("RGBA", (40, 20), colour).save(content, "PNG")
        it.metrics = BitmapGlyphMetrics.SmallGlyphMetrics()
        for key, value in dict(height=20, width=40, BearingX=0, BearingY=20, Advance=40).items(): setattr(it.metrics, key, value)
        it.imageData = content.getvalue()
        shown[name] = it
    made.font["CBDT"] = data = newTable("CBDT")
    data.version, data.strikeData = 3.0, [shown]
    made.font["CBLC"] = places = newTable("CBLC")
    strike, part = E_B_L_C_.Strike(), E_B_L_C_.eblc_index_sub_table_1(b"", made.font)
    part.indexFormat, part.imageFormat, part.names, part.firstGlyphIndex, part.lastGlyphIndex = 1, 17, names, 1, 3
    strike.indexSubTables, table = [part], strike.bitmapSizeTable
    for key, value in dict(colorRef=0, startGlyphIndex=1, endGlyphIndex=3, ppemX=40, ppemY=20, bitDepth=32, flags=1).items(): setattr(table, key, value)
    for way in ("hori", "vert"):
        metrics = E_B_L_C_.SbitLineMetrics()
        for key in ("ascender", "descender", "widthMax", "caretSlopeNumerator", "caretSlopeDenominator", "caretOffset", "minOriginSB",
                    "minAdvanceSB", "maxBeforeBL", "minAfterBL", "pad1", "pad2"): setattr(metrics, key, 0)
        setattr(table, way, metrics)
    places.version, places.strikes = 3.0, [strike]
    made.font.save(path)
    return path


def _empty():
    from fontTools.pens.ttGlyphPen import TTGlyphPen
    return TTGlyphPen(None).glyph()


def dicom(path, pixels, **changes):
    "Write grey slices of 16 bits as DICOM; `changes` are values of its elements."
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = "1.2.840.10008.5.1.4.1.1.7", generate_uid(), ExplicitVRLittleEndian
    it = pydicom.Dataset()
    it.file_meta = meta
    about = dict(Rows=pixels.shape[-2], Columns=pixels.shape[-1], SamplesPerPixel=1, BitsAllocated=16, BitsStored=16, HighBit=15,
                 PixelRepresentation=0, PhotometricInterpretation="MONOCHROME2", PixelData=pixels.astype("<u2").tobytes())
    for name, value in {**about, **changes}.items(): setattr(it, name, value)
    it.save_as(path, enforce_file_format=True)
