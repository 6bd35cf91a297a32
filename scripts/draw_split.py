"""Draw one split of a dataset: indices of labelled, unlabelled and validation points."""

import argparse
import json
from pathlib import Path

from flowgmm.datasets.label_lists import read_label_list
from flowgmm.datasets.splits import draw_split
from flowgmm.experiments.job_script import run_script
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_tensors, sha256, write_tensors


def main(options: argparse.Namespace) -> None:
    spec, features = json.loads(options.spec), Path(options.features)
    arrays, described = read_tensors(features, ["y_train"])
    if described["dataset"] != spec["dataset"]:
        raise UserError(
            f"{features} has the features of {described['dataset']}, expected {spec['dataset']}; "
            "delete it and run again"
        )
    seeds = {f"{purpose}_seed": seed for purpose, seed in spec["seeds"].items()}
    try:
        y_train, label_set = arrays["y_train"], spec["label_set"]
        for path in options.list:
            rows = read_label_list(Path(path), y_train, described["classes"])
            if len(rows) != label_set["n_labels"]:
                raise UserError(
                    f"{path}: expected {label_set['n_labels']} lines, as n_labels says, got "
                    f"{len(rows)}; correct `lists` or n_labels"
                )
            label_set = label_set | {"n_labels": None, "indices": rows}
        split = draw_split(y_train, **label_set, **seeds)
    except UserError as error:
        raise UserError(f"{spec['dataset']}, label set {spec['labels']!r}: {error}") from error
    keys = ("dataset", "labels", "split", "seeds")
    meta = {key: spec[key] for key in keys} | {"features_sha256": sha256(features), "spec": spec}
    write_tensors(options.output, split, meta)


if __name__ == "__main__":
    run_script(
        main,
        "spec",
        "features",
        "list*",
        "output",
        needs=lambda options: [options.features, *options.list],
        makes=lambda options: [options.output],
    )
