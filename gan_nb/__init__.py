"The laboratory for training GANs with (sub)gradient methods."
__version__ = "0.1.0"
