"""Make the features of texts or images with an encoder."""

import argparse
import json
from pathlib import Path

from flowgmm.datasets.features import raw_files
from flowgmm.embed.embed_data import embed_data
from flowgmm.experiments.job_script import ProgressLog, run_script
from flowgmm.utils.io import write_tensors


def main(options: argparse.Namespace) -> None:
    spec = json.loads(options.spec)
    progress = ProgressLog(f"embed {spec['dataset']}")
    fetched = Path(options.encoder[0]) if options.encoder else None
    raw, cache = Path(options.raw), Path(options.cache)
    arrays, meta = embed_data(spec, raw, cache, progress, fetched)
    write_tensors(options.output, arrays, meta)


if __name__ == "__main__":
    run_script(
        main,
        "spec",
        "raw",
        "encoder*",
        "cache",
        "output",
        needs=lambda options: [
            *raw_files(json.loads(options.spec), Path(options.raw)),
            *options.encoder,
        ],
        makes=lambda options: [options.output],
    )
