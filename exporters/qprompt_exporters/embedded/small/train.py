"""Trains the backbone.

    python -m qprompt_exporters.embedded.small.train --data DIR --out DIR [--stage STAGE]

Three stages; the first two do not need each other and may run side by side:

    text    where every noun belongs (`targets.py`), then the text tower that points there (`text_stage.py`)
    image   the trunk learns to see small and blurred photos (`image_stage.py`)
    head    the blocks behind the trunk (`head_stage.py`), then `weights.safetensors` in float16

Without `--stage` they run one after the other. Everything lies in `--out`: what the sentence encoder said,
decoded images, a checkpoint for each stage. The same command goes on from wherever it was stopped.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from open_clip import CLIP
from open_clip.tokenizer import SimpleTokenizer

from qprompt_exporters.embedded import wordnet
from qprompt_exporters.embedded.backbones import EMBEDDED, save_weights
from qprompt_exporters.embedded.captions import TEMPLATES, encode_captions
from qprompt_exporters.embedded.data import cache_training_images, read_class_names
from qprompt_exporters.embedded.small import head_stage, targets
from qprompt_exporters.embedded.small.head_stage import Grids, HeadConfig
from qprompt_exporters.embedded.small.image_stage import ImageConfig, ImageData, ImageStage
from qprompt_exporters.embedded.small.model import build_small
from qprompt_exporters.embedded.small.targets import NounViews, Prototypes, Tree
from qprompt_exporters.embedded.small.text_stage import TextStage, start_from_tiny
from qprompt_exporters.embedded.small.trunk import Trunk, load_imagenet
from qprompt_exporters.embedded.small.views import batch_of, centre, crop, read_photos, worsen
from qprompt_exporters.embedded.wordnet import Noun, Synset
from qprompt_exporters.storage import quantize_rows
from qprompt_runtime.arrays import Array

STAGES = ("text", "image", "head")
TRAINED_SHARE = 0.6
"""Share of the trained trunk in the mean with the published one (WiSE-FT, Wortsman et al. 2022).

The published trunk keeps what sharp photos need.
"""
PHOTO_VIEWS = 5
"""Stored views of each photograph for the head, the first of them plain."""
THUMBNAILS = 9000
"""Stored views of Tiny ImageNet's images."""


def _unit(rows: Array) -> Array:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _name_features(nouns: list[Noun]) -> Array:
    """`tiny`'s text features of names, [N, 256]."""
    model, tokenizer = EMBEDDED["tiny"].load(), SimpleTokenizer()
    texts = [TEMPLATES[0].format(noun.name) for noun in nouns]
    with torch.inference_mode():
        parts = [encode_captions(model, tokenizer, texts[i : i + 500]) for i in range(0, len(texts), 500)]
    return torch.cat(parts).numpy()


def text_targets(
    out: Path, nouns: list[Noun], synsets: dict[str, Synset], classifier: Array, width: int
) -> tuple[Prototypes, torch.Tensor, torch.Tensor]:
    """Finds every noun's place once, and keeps it in `out`.

    Returns:
        The prototypes, the places of the nouns [N, width] and those of the prototypes [K, width], unit
        vectors.
    """
    tree = Tree(synsets)
    known = targets.known_prototypes(synsets, tree, classifier)
    file = out / "targets.npz"
    if not file.exists():
        from qprompt_exporters.embedded import teacher  # needs transformers and the encoder's package

        glosses, known_glosses = (
            teacher.embed([teacher.noun_texts(noun)[1] for noun in some]) for some in (nouns, known.nouns)
        )
        names, known_names = _name_features(nouns), _name_features(known.nouns)
        gloss_mean, name_mean = glosses.mean(axis=0), names.mean(axis=0)
        views, known_views = (
            NounViews(_unit(g - gloss_mean), _unit(n - name_mean), tree.vectors([noun.wnid for noun in some]))
            for g, n, some in ((glosses, names, nouns), (known_glosses, known_names, known.nouns))
        )
        _, of_class = targets.projection(classifier, width)
        np.savez(
            out / "targets.part.npz",
            nouns=_unit(targets.regress(known_views, known, views) @ of_class),
            known=_unit(known.vectors @ of_class),
        )
        (out / "targets.part.npz").rename(file)
    with np.load(file) as stored:
        return known, torch.from_numpy(stored["nouns"]).float(), torch.from_numpy(stored["known"]).float()


def train_text(model: CLIP, synsets: dict[str, Synset], wordnet_folder: Path, out: Path, steps: int) -> None:
    """Runs the text stage."""
    nouns = wordnet.read_nouns(wordnet_folder, synsets)
    _, weight, _ = load_imagenet()
    known, places, prototypes = text_targets(
        out, nouns, synsets, weight.numpy(), model.text_projection.shape[1]
    )
    start_from_tiny(model)
    stage = TextStage(model, nouns, places, known.nouns, prototypes, steps)
    if (out / "text.pt").exists():
        stage.load(out / "text.pt")
    stage.run(out / "text.pt")


def read_image_data(data: Path, out: Path) -> ImageData:
    """Reads both sets of training images; Tiny ImageNet's are decoded once, into `out`."""
    rows = {wnid: row for row, wnid in enumerate(targets.imagenet_classes())}
    classes = list(read_class_names(data))
    thumbnails, labels = cache_training_images(data, out, classes)
    photos, wnids = read_photos(data / "imagenet-samples.zip")
    return ImageData(
        photos,
        torch.tensor([rows[wnid] for wnid in wnids]),
        thumbnails,
        labels.numpy(),
        torch.tensor([rows[wnid] for wnid in classes]),
    )


def train_image(data: Path, out: Path, steps: int) -> None:
    """Runs the image stage."""
    trunk, weight, bias = load_imagenet()
    stage = ImageStage(trunk, (weight, bias), read_image_data(data, out), ImageConfig(steps=steps))
    if (out / "image.pt").exists():
        stage.load(out / "image.pt")
    stage.run(out)


def store_grids(trunk: Trunk, data: ImageData, config: ImageConfig, seed: int) -> Grids:
    """Runs the trained trunk over views of both sets, once; see `Grids`."""
    teacher, weight, bias = load_imagenet()
    rng = np.random.default_rng(seed)
    for model in (trunk, teacher):
        model.eval().to(memory_format=torch.channels_last)
    parts, wanted, held = [], [], []
    plain = PHOTO_VIEWS * len(data.photos)
    for number in range(PHOTO_VIEWS):
        sharp = [crop(photo, 0.25, rng) if number else centre(photo) for photo in data.photos]
        views = [worsen(x, 24, 160, rng) if number else x for x in sharp]
        parts.append(head_stage.encode_grids(trunk, views))
        with torch.inference_mode():
            pooled = torch.cat([teacher(batch_of(sharp[i : i + 16])) for i in range(0, len(sharp), 16)])
        wanted.append((pooled @ weight.T + bias).softmax(dim=1).half())
        held.append(torch.arange(len(data.photos)) % config.hold_out == 0)
    rows = rng.choice(len(data.labels), THUMBNAILS, replace=False)
    for chosen in np.array_split(rows, len(rows) // 1000):
        views = [worsen(crop(data.thumbnails[int(i)], 0.6, rng), 24, 64, rng) for i in chosen]
        parts.append(head_stage.encode_grids(trunk, views))
    truth = data.label_classes[data.labels[rows]]
    wanted.append(torch.nn.functional.one_hot(truth, len(weight)).half())
    held.append(torch.from_numpy(data.labels[rows] % config.hold_out == 0))
    grid, pooled = (torch.cat([part[i] for part in parts]) for i in range(2))
    labelled = torch.arange(len(grid)) >= plain
    return Grids(grid, pooled, torch.cat(wanted), labelled, torch.cat(held))


def train_head(model: CLIP, synsets: dict[str, Synset], data: Path, out: Path, config: HeadConfig) -> None:
    """Runs the head stage on the other stages' results, and writes the weights."""
    text = torch.load(out / "text.pt", weights_only=True)["text"]
    model.load_state_dict(text, strict=False)
    # as the bundle stores it, so that the model and its bundle are the same to float16
    codes, scales = quantize_rows(model.token_embedding.weight.detach().numpy())
    model.token_embedding.weight.data.copy_(torch.from_numpy(codes * scales))
    trunk = model.visual.conv1
    published, trained = load_imagenet()[0].state_dict(), torch.load(out / "trunk.pt", weights_only=True)
    trunk.load_state_dict(
        {name: torch.lerp(published[name], trained[name], TRAINED_SHARE) for name in published}
    )
    model.eval()
    if not (out / "grids.pt").exists():
        grids = store_grids(trunk, read_image_data(data, out), ImageConfig(), config.seed)
        torch.save(vars(grids), out / "grids.part.pt")
        (out / "grids.part.pt").rename(out / "grids.pt")
    grids = Grids(**torch.load(out / "grids.pt", weights_only=True))
    names = [synsets[wnid].names[0] for wnid in targets.imagenet_classes()]
    with torch.inference_mode():
        texts = encode_captions(model, SimpleTokenizer(), [TEMPLATES[0].format(name) for name in names])
    photos = len(grids.grid) - THUMBNAILS
    mean = grids.pooled[:photos].float().mean(dim=0)
    scale = float(grids.grid[:1000].float().square().mean().sqrt())
    _, weight, _ = load_imagenet()
    head_stage.start_head(model.visual, weight.numpy(), mean, scale)
    head_stage.train_head(model, grids, texts.clone(), config)
    save_weights(model.state_dict(), out / "weights.safetensors")


def main() -> None:
    """Parses the command line and runs the stages."""
    parser = argparse.ArgumentParser(description="Train the embedded backbone `small`.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the training images' zip files")
    parser.add_argument(
        "--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="folder with data.noun"
    )
    parser.add_argument("--out", type=Path, required=True, help="takes caches, checkpoints and weights")
    parser.add_argument("--stage", choices=STAGES, help="run this stage alone")
    parser.add_argument("--text-steps", type=int, default=2800)
    parser.add_argument("--image-steps", type=int, default=ImageConfig.steps)
    parser.add_argument("--head-steps", type=int, default=HeadConfig.steps)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(1)
    synsets = wordnet.read_synsets(args.wordnet)
    for stage in STAGES if args.stage is None else (args.stage,):
        if stage == "text":
            train_text(build_small(), synsets, args.wordnet, args.out, args.text_steps)
        elif stage == "image":
            train_image(args.data, args.out, args.image_steps)
        else:
            config = replace(HeadConfig(), steps=args.head_steps)
            train_head(build_small(), synsets, args.data, args.out, config)


if __name__ == "__main__":
    main()
