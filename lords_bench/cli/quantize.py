"""`lords-bench quantize`: quantize a model and write it as a folder."""

from dataclasses import dataclass
from pathlib import Path

from rich.progress import track

from lords_bench.cli.command import Parser
from lords_bench.cli.models import CALIBRATION, ModelSettings, choose_device, load_model, read_calibration
from lords_bench.cli.output import say
from lords_bench.options import add_options, option, settings_of
from lords_bench.quant import QuantSpec
from lords_bench.terminal import Console


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizeSettings(ModelSettings):
    """Quantizes every linear layer of a model and writes the packed weights as safetensors."""

    out: Path = option("folder to write; new or empty", metavar="DIR")
    calibration: Path | None = option(CALIBRATION, default=None)


def add_arguments(parser: Parser) -> None:
    parser.description = QuantizeSettings.__doc__
    add_options(parser, QuantizeSettings)
    add_options(parser, QuantSpec)
    parser.finish(lambda given: quantize(settings_of(QuantizeSettings, given), settings_of(QuantSpec, given)))


def quantize(settings: QuantizeSettings, spec: QuantSpec) -> int:
    """Quantizes a model and writes it as a folder."""
    from lords_bench.integrations.calibration import collect_hessians
    from lords_bench.integrations.quantized_folder import require_free, save_quantized_folder
    from lords_bench.integrations.windows import rolling_windows
    from lords_bench.suites.accuracy.layers import quantize_layer
    from lords_bench.suites.accuracy.text import QUICK, calibration_passages

    console = Console(stderr=True)
    require_free(settings.out)
    device = choose_device(settings.device)
    model = load_model(settings.model, device=device, dtype=settings.dtype, console=console)
    hessians = {}
    if spec.needs_hessian:
        passages = calibration_passages(QUICK, read_calibration(settings.calibration))
        limit = min(QUICK.window_tokens, model.context_tokens or QUICK.window_tokens)
        hessians = collect_hessians(model, rolling_windows(model.tokenizer, [p.text for p in passages], limit))
    weights = {
        layer.name: quantize_layer(layer, spec, hessian_KK=hessians.get(layer.name))
        for layer in track(model.layers, "quantizing", console=console, transient=True)
    }
    save_quantized_folder(model, weights, settings.out)
    bits = sum(weight.bits_per_weight * weight.shape[0] * weight.shape[1] for weight in weights.values())
    count = sum(layer.weight_count for layer in model.layers)
    say(f"{len(weights)} layers at {bits / count:.3f} bits per weight: {settings.out}")
    return 0
