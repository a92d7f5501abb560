"""Makes Inter-Latin.ttf for the charts that Rust draws: the Latin part of Inter (OFL-1.1) at its normal weight.
usage: make.py inter-latin-wght-normal.woff2   (from the npm package @fontsource-variable/inter 5.3; needs fonttools, brotli)"""
import sys
from fontTools.ttLib import TTFont
from fontTools.varLib.instancer import instantiateVariableFont

font = instantiateVariableFont(TTFont(sys.argv[1]), {"wght": 400})
font.flavor = None
font.save("Inter-Latin.ttf")
