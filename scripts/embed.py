"""Make the features of texts or images with an encoder."""

import argparse
import json
from pathlib import Path

from flowgmm.embed import embed_dataset
from flowgmm.files import write_tensors
from flowgmm.script import Progress, run_script


def main(options: argparse.Namespace) -> None:
    spec = json.loads(options.spec)
    progress = Progress(f"embed {spec['dataset']}")
    arrays, meta = embed_dataset(spec, Path(options.raw), Path(options.cache), progress)
    write_tensors(options.output, arrays, meta)


if __name__ == "__main__":
    run_script(main, "spec", "raw", "cache", "output")
