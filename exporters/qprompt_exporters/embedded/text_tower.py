"""What both backbones' text stages share.

It is the tower's parameters, and the loss towards a teacher's vectors.
"""

import torch
import torch.nn.functional as F
from open_clip import CLIP

RELATION_SCALE = 16.0  # inverse temperature of the relations between nouns in a batch


TOKEN_TABLE = "token_embedding."
TEXT_PARTS = ("transformer.", "positional_embedding", "ln_final.", "text_projection", TOKEN_TABLE)
"""How the names of the text tower's tensors begin in an `open_clip.CLIP`."""


def text_parameters(model: CLIP, table: bool) -> list[torch.nn.Parameter]:
    """Lists the text tower's parameters, with or without the token table."""
    parts = TEXT_PARTS if table else tuple(part for part in TEXT_PARTS if part != TOKEN_TABLE)
    return [p for name, p in model.named_parameters() if name.startswith(parts)]


def distill_loss(features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cosine distance to the targets plus the divergence of each noun's similarities to its batch.

    Args:
        features: [N, E] unit vectors of the text tower.
        targets: [N, E] unit vectors of the teacher.

    Returns:
        The loss, a scalar.
    """
    cosine = 1 - (features * targets).sum(dim=1).mean()
    student = F.log_softmax(RELATION_SCALE * features @ targets.T, dim=1)
    teacher = F.log_softmax(RELATION_SCALE * targets @ targets.T, dim=1)
    return cosine + 0.2 * F.kl_div(student, teacher, log_target=True, reduction="batchmean")
