"""Measures the backbone: `python -m qprompt_exporters.tiny.evaluate --data DIR [--weights FILE | --bundle FOLDER]`.

Zero-shot top-1 with the one template "a photo of a {}." on Tiny ImageNet's validation split; on sets that the backbone
never saw also the top-1 of a linear probe on 16 images a class (mean of ten draws). A table goes to stderr, one
JSON object to stdout (`results.json` holds that of the weights beside it). With `--bundle` the exported graphs are measured
instead of the weights: what float16 or int8 costs. The downstream sets are for the final word, not
for choosing between models.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from open_clip import CLIP
from open_clip.tokenizer import SimpleTokenizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from qprompt_exporters.tiny.captions import encode_captions
from qprompt_exporters.tiny.data import few_shots, read_class_names, read_zip
from qprompt_exporters.tiny.model import WEIGHTS, load_tiny
from qprompt_runtime.backbone import Backbone

TEMPLATE = "a photo of a {}."
SHOTS = 16
SEEDS = range(1, 11)
"""Draws of a probe's training images: one that moves by the last bit of its features moves by half a point, three leave that much."""
PROBE_STEPS = 200
PROBE_CS = (0.01, 0.03, 0.1)

Features = tuple[torch.Tensor, list[str]]
Result = tuple[str, float, float | None]


@dataclass(frozen=True)
class Encoder:
    """A backbone, in torch or exported: images [N, 3, 64, 64] and N class names to unit vectors [N, E]."""

    images: Callable[[torch.Tensor], torch.Tensor]
    names: Callable[[list[str]], torch.Tensor]


def torch_encoder(model: CLIP) -> Encoder:
    """Encodes by the trained model itself."""

    @torch.inference_mode()
    def images(pixels: torch.Tensor) -> torch.Tensor:
        return torch.cat([model.encode_image(part, normalize=True) for part in pixels.split(200)])

    @torch.inference_mode()
    def names(words: list[str]) -> torch.Tensor:
        return encode_captions(model, SimpleTokenizer(), [TEMPLATE.format(name) for name in words])

    return Encoder(images, names)


def bundle_encoder(backbone: Backbone) -> Encoder:
    """Encodes by a bundle's graphs."""

    def images(pixels: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(backbone.encode_images(pixels.numpy()))

    def names(words: list[str]) -> torch.Tensor:
        before, after = TEMPLATE.split("{}")
        context = backbone.embed_text(before.strip())[None]
        tokens = backbone.tokenize(words, ("", after), context.shape[1])
        return torch.from_numpy(backbone.encode_classes(context, tokens))

    return Encoder(images, names)


def zero_shot(
    encoder: Encoder, features: torch.Tensor, labels: list[str], names: dict[str, str], top: int = 1
) -> float:
    """Gives the share of images whose class is among the `top` nearest names.

    Args:
        encoder: the backbone.
        features: [N, E] unit vectors of images.
        labels: N class folders.
        names: what each class folder is called in words.
        top: how many guesses count.

    Returns:
        A fraction from 0 to 1.
    """
    classes = sorted(names)
    texts = encoder.names([names[c] for c in classes])
    guesses = (features @ texts.T).topk(top, dim=1).indices
    truth = torch.tensor([classes.index(label) for label in labels])
    return (guesses == truth[:, None]).any(dim=1).float().mean().item()


def probe(train: Features, test: Features, seed: int) -> float:
    """Top-1 on `test` of a linear classifier fitted to frozen features.

    Logistic regression by L-BFGS as CLIP's authors do it; they choose its L2 penalty on validation images, here it is
    chosen by four-fold cross-validation among the training images (the folds by `seed`).
    """
    model = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=PROBE_STEPS)),
        {"logisticregression__C": PROBE_CS},
        cv=StratifiedKFold(4, shuffle=True, random_state=seed),
    )
    model.fit(train[0].numpy(), train[1])
    return float(model.score(test[0].numpy(), test[1]))


def probe_mean(train: Features, test: Features | None) -> float:
    """Averages `probe` over seeds, 16 images a class; without `test`, on all the images not drawn."""

    def take(features: Features, rows: list[int]) -> Features:
        return features[0][rows], [features[1][row] for row in rows]

    scores = []
    for seed in SEEDS:
        chosen, rest = few_shots(train[1], SHOTS, seed)
        scores.append(probe(take(train, chosen), test or take(train, rest), seed))
    return sum(scores) / len(scores)


def plain_names(labels: list[str]) -> dict[str, str]:
    """Turns class folders into words: `_` and `-` become spaces."""
    return {label: label.replace("_", " ").replace("-", " ").lower() for label in set(labels)}


def measure(encoder: Encoder, data: Path, probes: bool) -> Iterator[Result]:
    """Gives (set, zero-shot top-1, probe top-1 or None) for each set."""

    def features(file: str, prefix: str, depth: int) -> Features:
        images, labels = read_zip(data / file, prefix, depth)
        return encoder.images(images), labels

    def row(name: str, test: Features, words: dict[str, str], train: Features | None) -> Result:
        score = probe_mean(train or test, test if train else None) if probes else None
        return name, zero_shot(encoder, *test, words), score

    words = {wnid: names[0] for wnid, names in read_class_names(data).items()}
    test = features("tiny-imagenet-val.zip", "val/", 1)
    yield "tiny-imagenet-val", zero_shot(encoder, *test, words), None
    test = features("cifar10-subset.zip", "test/", 1)
    yield row("cifar10", test, plain_names(test[1]), features("cifar10-subset.zip", "train/", 1))
    test = features("caltech101.zip", "", 0)
    yield row("caltech101", test, plain_names(test[1]), None)
    for domain in ("photo", "art_painting", "cartoon", "sketch"):
        test = features("pacs.zip", domain + "/", 1)
        yield row(f"pacs-{domain}", test, plain_names(test[1]), None)
    images, files = read_zip(data / "photos-full-size.zip", "", -1)
    names = {file: file.rsplit(".", 1)[0].split("_", 1)[1].replace("_", " ") for file in files}
    yield "photos-full-size top-5", zero_shot(encoder, encoder.images(images), files, names, top=5), None


def main() -> None:
    """Parses the command line and prints the figures."""
    parser = argparse.ArgumentParser(description="Evaluate the embedded backbone.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the zip files")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--weights", type=Path, default=WEIGHTS)
    which.add_argument("--bundle", type=Path, help="measure this exported bundle instead")
    parser.add_argument("--no-probes", action="store_true", help="zero-shot only")
    args = parser.parse_args()
    encoder = bundle_encoder(Backbone(args.bundle)) if args.bundle else torch_encoder(load_tiny(args.weights))
    figures = {}
    print(f"{'set':24} zero-shot  probe", file=sys.stderr)
    for name, score, probed in measure(encoder, args.data, not args.no_probes):
        figures[name] = {"zero_shot": round(score, 4), "probe": None if probed is None else round(probed, 4)}
        shown = "" if probed is None else f"{probed:8.1%}"
        print(f"{name:24} {score:8.1%} {shown}", file=sys.stderr, flush=True)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
