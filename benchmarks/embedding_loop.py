"""Texts and images per second of the embedding against a plain loop over the same encoder.

The plain loop encodes batches of 32 in the order of the data, in float32: texts padded to the
encoder's 512 word pieces, images through the network as its package gives it. Two more loops pad
texts to the longest of a batch, or encode them one by one, unpadded, as the authors did. All take
turns in one process. `--accuracy` compares the vectors instead, and the accuracy of logistic
regression and nearest neighbours on them.

    OMP_NUM_THREADS=2 python benchmarks/embedding_loop.py text --threads 2
    OMP_NUM_THREADS=2 python benchmarks/embedding_loop.py text --threads 2 --accuracy
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from common import MIRROR, ROOT, machine, make_parser, quartiles, seconds_of, write_results
from torch.utils.flop_counter import FlopCounterMode

from flowgmm.datasets.loaders.cifar import load_cifar10
from flowgmm.datasets.loaders.text import load_text, normalise
from flowgmm.embed import image as image_module
from flowgmm.embed import text as text_module
from flowgmm.embed.image import embed_images
from flowgmm.embed.text import embed_texts
from flowgmm.training.hardware import best_precision

Vectors = Callable[[list[int]], np.ndarray]
BATCH = 32
DRAWS = 10


def text_loop(texts: list[str], batch: int, padding: str | bool) -> Vectors:
    """Make the plain loop over texts: mean over the word pieces, as the encoder was trained."""
    from transformers import AutoModel, AutoTokenizer

    folder = text_module.encoder_folder("minilm", Path())
    tokeniser = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()

    @torch.no_grad()
    def encode(items: list[int]) -> np.ndarray:
        vectors = []
        for start in range(0, len(items), batch):
            clean = [normalise(texts[i]) for i in items[start : start + batch]]
            inputs = tokeniser(
                clean, truncation=True, max_length=512, padding=padding, return_tensors="pt"
            )
            hidden = model(**inputs).last_hidden_state
            mask = inputs["attention_mask"].unsqueeze(-1).float()
            vectors.append(((hidden * mask).sum(1) / mask.sum(1)).numpy())
        return np.concatenate(vectors)

    return encode


def image_loop(images: np.ndarray, batch: int) -> Vectors:
    """Make the plain loop over images."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    path = image_module._weights("efficientnet_lite0")[1]
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network.eval()

    @torch.no_grad()
    def encode(items: list[int]) -> np.ndarray:
        vectors = []
        for start in range(0, len(items), batch):
            x = torch.from_numpy(images[items[start : start + batch]]).float() / 255
            x = torch.nn.functional.interpolate(x, (224, 224), mode="bicubic", antialias=True)
            x = (x.clamp(0, 1) * 255 - 127) / 128
            vectors.append(network.extract_features(x).mean((2, 3)).numpy())
        return np.concatenate(vectors)

    return encode


def our_texts(texts: list[str], **options: Any) -> Vectors:
    """Make the encoder of a chunk of `embed_texts`."""
    folder = text_module.encoder_folder("minilm", Path())
    default = {
        "pooling": "mean",
        "max_length": 512,
        "normaliser": True,
        "precision": best_precision("cpu"),
        "batch_tokens": 4096,
        "device": "cpu",
    }
    encoder = text_module._Encoder(texts, folder, text_module._Options(**default | options))
    return lambda items: encoder(np.array(items))


def our_images(images: np.ndarray, **options: Any) -> Vectors:
    """Make the encoder of a chunk of `embed_images`."""
    default = {
        "resolution": 224,
        "precision": best_precision("cpu"),
        "batch_images": 16,
        "channels_last": True,
        "device": "cpu",
    }
    architecture, path = image_module._weights("efficientnet_lite0")
    encoder = image_module._Encoder(
        images, architecture, path, image_module._Options(**default | options)
    )
    return lambda items: encoder(np.array(items))


def load(kind: str, mirror: Path) -> tuple[Any, np.ndarray, Any, np.ndarray]:
    """Load texts of AG-News or images of CIFAR-10 and their classes: training and test part."""
    if kind == "text":
        config = yaml.safe_load((ROOT / "config/datasets.yaml").read_text())
        options = config["ag_news"]["options"] | {"train": "train_partial.csv.gz"}
        data: Any = load_text(mirror / "ag_news_csv", **options, train_rows=4000)
    else:
        data = load_cifar10(mirror / "cifar10-lossless-webp")
    return data.train, data.y_train, data.test, data.y_test


def sides(kind: str, data: Any) -> dict[str, tuple[Vectors, int]]:
    """Encoders to time, and the number of items of a round: fewer of the slow ones."""
    if kind == "images":
        return {"ours": (our_images(data), 128), "plain": (image_loop(data, BATCH), 64)}
    return {
        "ours": (our_texts(data), 512),
        "ours_1024_tokens": (our_texts(data, batch_tokens=1024), 512),
        "ours_fp32": (our_texts(data, precision="fp32"), 256),
        "plain": (text_loop(data, BATCH, "max_length"), BATCH),
        "padded_to_longest": (text_loop(data, BATCH, True), 128),
        "one_by_one": (text_loop(data, 1, False), 64),
    }


def measure(kind: str, mirror: Path, rounds: int) -> dict[str, Any]:
    """Measure items per second in turn, ratios within a round, shares of a product's rate."""
    data = load(kind, mirror)[0]
    timed = sides(kind, data)
    square = {d: torch.randn(1024, 1024).to(d) for d in (torch.float32, torch.bfloat16)}
    operations = {}
    for name, (encode, count) in timed.items():
        with FlopCounterMode(display=False) as counter:
            encode(list(range(count)))  # also the warm-up
        operations[name] = counter.get_total_flops() / count
    rates: dict[str, list[float]] = {name: [] for name in timed}
    products: dict[torch.dtype, list[float]] = {d: [] for d in square}
    for number in range(1, rounds + 1):
        for name, (encode, count) in timed.items():
            items = [(number * 512 + i) % len(data) for i in range(count)]
            rates[name].append(count / seconds_of(lambda: encode(items)))  # noqa: B023
        for dtype, matrix in square.items():
            seconds = seconds_of(lambda: matrix @ matrix, times=5)  # noqa: B023
            products[dtype].append(2 * 1024**3 / seconds)
    result: dict[str, Any] = {
        "product_gflops": {str(d): quartiles(np.array(v) / 1e9) for d, v in products.items()}
    }
    bf16 = best_precision("cpu") == "bf16"
    for name in timed:
        dtype = torch.bfloat16 if bf16 and name in ("ours", "ours_1024_tokens") else torch.float32
        own = np.array(rates[name])
        result[name] = {
            "per_second": quartiles(own),
            "ours_times_faster": quartiles(np.array(rates["ours"]) / own),
            "flop_an_item": operations[name],
            "share_of_product_rate": quartiles(operations[name] * own / np.array(products[dtype])),
        }
    return result


def accuracy(
    kind: str, mirror: Path, n_train: int, n_test: int, counts: list[int]
) -> dict[str, Any]:
    """Compare our vectors to the plain loop's: cosine distances, accuracies of classifiers.

    Both have the same labelled points, in `DRAWS` draws; means and standard errors are over draws.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, y_train, test, y_test = load(kind, mirror)
    train, y_train = train[:n_train], y_train[:n_train]
    test, y_test = test[:n_test], y_test[:n_test]
    loop = (
        (lambda x: text_loop(x, BATCH, True)) if kind == "text" else lambda x: image_loop(x, BATCH)
    )
    plain, ours = [], []
    with tempfile.TemporaryDirectory() as cache:
        for part in (train, test):
            plain.append(loop(part)(list(range(len(part)))))
            if kind == "text":
                ours.append(np.array(embed_texts(part, "minilm", Path(cache))))
            else:
                ours.append(np.array(embed_images(part, "efficientnet_lite0", Path(cache))))
    unit = [[x / np.linalg.norm(x, axis=1, keepdims=True) for x in X] for X in (plain, ours)]
    distance = 1 - (np.concatenate(unit[0]).astype(float) * np.concatenate(unit[1])).sum(1)
    result: dict[str, Any] = {
        "train": n_train,
        "test": n_test,
        "draws": DRAWS,
        "cosine_distance": quartiles(distance) | {"most": float(distance.max())},
    }
    for n_labels in counts:
        for name, make in (
            ("logistic", lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))),
            ("knn", lambda: KNeighborsClassifier(5)),
        ):
            found = []
            for draw in range(DRAWS):
                rows = np.random.default_rng(draw).permutation(n_train)[:n_labels]
                found.append(
                    [100 * make().fit(X[0][rows], y_train[rows]).score(X[1], y_test) for X in unit]
                )
            plain_, ours_ = np.array(found).T
            result[f"{name}_{n_labels}"] = {
                "plain": mean_and_error(plain_),
                "ours": mean_and_error(ours_),
                "difference": mean_and_error(ours_ - plain_),
            }
    return result


def mean_and_error(values: np.ndarray) -> dict[str, float]:
    """Mean and its standard error."""
    error = values.std(ddof=1) / len(values) ** 0.5
    return {"mean": float(values.mean()), "standard_error": float(error)}


def main() -> None:
    """Measure one kind; print a line for each side; write everything to a file."""
    parser = make_parser(__doc__)
    parser.add_argument("kind", choices=["text", "images"])
    parser.add_argument("--mirror", type=Path, default=MIRROR)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument(
        "--train", type=int, default=2000, help="with --accuracy: items to draw from"
    )
    parser.add_argument("--test", type=int, default=1000, help="with --accuracy")
    parser.add_argument("--labels", type=int, nargs="+", default=[50, 200, 1000])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    before = machine(args.threads)
    if args.accuracy:
        result = accuracy(args.kind, args.mirror, args.train, args.test, args.labels)
    else:
        result = measure(args.kind, args.mirror, args.rounds)
    for name, found in result.items():
        print(f"{name}: {json.dumps(found)}")
    header = {"machine": before, "kind": args.kind, "rounds": args.rounds}
    write_results(args.json, header | result)


if __name__ == "__main__":
    main()
