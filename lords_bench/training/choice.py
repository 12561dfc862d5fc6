"""Which layers of a model are quantized for training, and why the others are not."""

from collections import Counter
from collections.abc import Collection
from fnmatch import fnmatchcase

from torch import nn

from lords_bench.errors import UsageError


def choose_layers(
    model: nn.Module, *, skip: Collection[str], include_head: bool
) -> tuple[dict[str, nn.Linear], dict[str, str]]:
    """Layers to quantize, and what else holds weights with the reason why it stays, both in model order.

    A layer whose weight is also another module's (tied embeddings) stays, and so does one that is used in two places:
    replacing it in one would untie them.

    Raises:
        UsageError: a pattern in `skip` matches no module.
    """
    for pattern in skip:
        if not any(fnmatchcase(name, pattern) for name, _ in model.named_modules()):
            raise UsageError(f"skip pattern {pattern!r} matches no module; print(model) shows their names")
    uses = Counter(
        id(parameter)
        for _, module in model.named_modules(remove_duplicate=False)
        for parameter in module.parameters(recurse=False)
    )
    find_head = getattr(model, "get_output_embeddings", None)
    head = find_head() if callable(find_head) and not include_head else None
    chosen: dict[str, nn.Linear] = {}
    left: dict[str, str] = {}
    for name, module in model.named_modules():
        if not any(parameter.ndim >= 2 for parameter in module.parameters(recurse=False)):
            continue
        if type(module) is not nn.Linear:
            left[name] = f"a {type(module).__name__}"
        elif uses[id(module.weight)] > 1:
            left[name] = "its weight is shared"
        elif module is head:
            left[name] = "the output head"
        elif any(fnmatchcase(name, pattern) for pattern in skip):
            left[name] = "skipped on request"
        else:
            chosen[name] = module
    return chosen, left
