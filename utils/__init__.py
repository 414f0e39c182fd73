"""The course's shared package. Each module is named after what a lesson asks of it; none imports a heavy library early.

base + rows -> train -> evaluate -> record -> figure
bases  tasks    training  evaluation  results  figures
"""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
