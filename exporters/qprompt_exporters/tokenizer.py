"""open_clip's CLIP tokenizer as a `tokenizer.json`.

The `tokenizers` library and our runtime both read it.
"""

from __future__ import annotations

import json
from typing import Any

from open_clip.tokenizer import SimpleTokenizer

from qprompt_runtime.errors import BundleError

PAD_TOKEN = 0
"""What open_clip fills a row with behind the end token."""


def check_tokenizer(tokenizer: Any) -> SimpleTokenizer:
    """Accept CLIP's tokenizer with its usual cleaning, refuse any other.

    Raises:
        BundleError: Another tokenizer, or another cleaning mode or reduction.
    """
    plain = isinstance(tokenizer, SimpleTokenizer) and tokenizer.reduction_fn is None
    if not plain or tokenizer.clean_fn.__name__ != "_clean_lower":
        raise BundleError(
            f"the model's tokenizer is a {type(tokenizer).__name__} with options of its own; supported is "
            "CLIP's byte-pair tokenizer with lower-case cleaning"
        )
    return tokenizer


def tokenizer_json(tokenizer: SimpleTokenizer) -> str:
    """CLIP's vocabulary and merges in the layout of the `tokenizers` library.

    Args:
        tokenizer: CLIP's tokenizer.

    Returns:
        JSON text; `model.vocab` maps tokens to ids, `model.merges` lists pairs from best to worst.
    """
    start, end = tokenizer.all_special_ids[:2]
    special = [
        {"id": i, "content": tokenizer.decoder[i], "special": True, "normalized": False, "single_word": False,
         "lstrip": False, "rstrip": False}
        for i in (start, end)
    ]  # fmt: skip
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": special,
            "normalizer": {
                "type": "Sequence",
                "normalizers": [
                    {"type": "NFC"},
                    {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
                    {"type": "Lowercase"},
                ],
            },
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {
                        "type": "Split",
                        "pattern": {
                            "Regex": "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"
                        },
                        "behavior": "Removed",
                        "invert": True,
                    },
                    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
                ],
            },
            "post_processor": None,
            "decoder": {
                "type": "ByteLevel",
                "add_prefix_space": True,
                "trim_offsets": True,
                "use_regex": True,
            },
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "</w>",
                "fuse_unk": False,
                "vocab": tokenizer.encoder,
                "merges": [" ".join(pair) for pair in tokenizer.bpe_ranks],
            },
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )
