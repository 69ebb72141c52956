"""A process that runs one unit of each example and prints what came of it: ``python -m … ENGINE CACHE``."""

import sys
from pathlib import Path

from examples.alignment.align import FAMILY, Protein, compare, read_family
from examples.render.build import MODULE
from examples.render.scene import Tile, noria
from noria._core import Sandbox
from noria.work.functions import capture, decode_result
from noria.work.ids import blob_id
from noria.work.runtimes import installed


def main(engine: str, cache: str) -> None:
    sandbox = Sandbox(Path(cache), engine)
    tile = noria(64, 36, 4).encode(Tile(24, 12, 16, 9))
    rendered = sandbox.load(MODULE.read_bytes()).run(tile, 10**10)
    print("render", rendered.status, blob_id(rendered.output).hex(), rendered.fuel)
    first, second = (Protein(one.name, one.residues[100:220]) for one in read_family(FAMILY)[:2])
    call = capture(compare).call((first, second))
    runtime = installed()
    program = sandbox.load_cached(runtime.program_id) or sandbox.load(runtime.path.read_bytes())
    aligned = program.run(call.archive, 10**12)
    score = decode_result(aligned.output, call.classes).score
    print("alignment", aligned.status, blob_id(aligned.output).hex(), aligned.fuel, score)


if __name__ == "__main__":
    main(*sys.argv[1:])
