"""Small files of formats that only the fields need, made for tests and for the fuzzers."""
import io
import sys
from pathlib import Path

from PIL import Image, ImageDraw


def tiny_font(path):
    "Write a font with one coloured picture for each of two characters, and one for both in a row."
    colours = {(0x1F600,): (255, 0, 0, 255), (0x1F601,): (0, 255, 0, 255), (0x1F600, 0x1F601): (0, 0, 255, 0)} # the last one is clear
    return font_of(path, {points: Image.new("RGBA", (40, 20), colour) for points, colour in colours.items()})


def stand_in_font(path):
    """Write a font that has every emoji, none of them worth a look: for the notebooks' tests on a machine without the
    real one."""
    from gan_nb.sources import emoji_groups
    def picture(points):
        it, colour = Image.new("RGBA", (32, 32), (255, 255, 255, 0)), tuple(sum(points) * k % 200 for k in (1, 7, 31))
        ImageDraw.Draw(it).ellipse((3, 5 + points[-1] % 8, 20 + sum(points) % 9, 28), fill=(*colour, 255))
        return it
    return font_of(path, {points: picture(points) for points in (tuple(int(p, 16) for p in code.split("-")) for code in emoji_groups())})


def font_of(path, pictures):
    "Write a font of coloured pictures, all of one size: {characters in a row, as numbers: a picture}."
    from fontTools.fontBuilder import FontBuilder
    from fontTools.otlLib.builder import buildLigatureSubstSubtable, buildLookup
    from fontTools.ttLib import newTable
    from fontTools.ttLib.tables import BitmapGlyphMetrics, C_B_D_T_, E_B_L_C_, otTables
    names = {points: "e" + "_".join(f"{p:X}" for p in points) for points in pictures}
    single = {p: f"e{p:X}" for points in pictures for p in points}
    (width, height), made = next(iter(pictures.values())).size, FontBuilder(1024, isTTF=True)
    glyphs = [*names.values(), *sorted({*single.values()} - {*names.values()})] # those with a picture stand together
    made.setupGlyphOrder([".notdef", *glyphs])
    made.setupCharacterMap(single)
    made.setupGlyf({name: _empty() for name in [".notdef", *glyphs]})
    made.setupHorizontalMetrics({name: (1024, 0) for name in [".notdef", *glyphs]})
    made.setupHorizontalHeader(); made.setupNameTable({"familyName": "it"}); made.setupOS2(); made.setupPost()
    rows = {tuple(single[p] for p in points): name for points, name in names.items() if len(points) > 1}
    made.font["GSUB"] = newTable("GSUB")
    made.font["GSUB"].table = _only(otTables, buildLookup([buildLigatureSubstSubtable(rows)]))
    shown = {}
    for points, picture in pictures.items():
        content, it = io.BytesIO(), C_B_D_T_.cbdt_bitmap_format_17(b"", made.font)
        picture.save(content, "PNG")
        it.metrics = BitmapGlyphMetrics.SmallGlyphMetrics()
        for key, value in dict(height=height, width=width, BearingX=0, BearingY=height, Advance=width).items(): setattr(it.metrics, key, value)
        it.imageData = content.getvalue()
        shown[names[points]] = it
    made.font["CBDT"] = data = newTable("CBDT")
    data.version, data.strikeData = 3.0, [shown]
    made.font["CBLC"] = places = newTable("CBLC")
    strike, part = E_B_L_C_.Strike(), E_B_L_C_.eblc_index_sub_table_1(b"", made.font)
    part.indexFormat, part.imageFormat, part.names, part.firstGlyphIndex, part.lastGlyphIndex = 1, 17, [*shown], 1, len(shown)
    strike.indexSubTables, table = [part], strike.bitmapSizeTable
    sizes = dict(colorRef=0, startGlyphIndex=1, endGlyphIndex=len(shown), ppemX=width, ppemY=height, bitDepth=32, flags=1)
    for key, value in sizes.items(): setattr(table, key, value)
    for way in ("hori", "vert"):
        metrics = E_B_L_C_.SbitLineMetrics()
        for key in ("ascender", "descender", "widthMax", "caretSlopeNumerator", "caretSlopeDenominator", "caretOffset", "minOriginSB",
                    "minAdvanceSB", "maxBeforeBL", "minAfterBL", "pad1", "pad2"): setattr(metrics, key, 0)
        setattr(table, way, metrics)
    places.version, places.strikes = 3.0, [strike]
    made.font.save(path)
    return path


def _only(tables, lookup):
    "A table of substitutions that has one lookup."
    it = tables.GSUB()
    it.Version = 0x00010000
    it.ScriptList, it.FeatureList, it.LookupList = tables.ScriptList(), tables.FeatureList(), tables.LookupList()
    it.ScriptList.ScriptRecord, it.FeatureList.FeatureRecord, it.LookupList.Lookup = [], [], [lookup]
    return it


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


if __name__ == "__main__": # python tests/odd_files.py FOLDER
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    stand_in_font(folder/"NotoColorEmoji.ttf")
