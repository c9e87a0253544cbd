"""Any classifier as a staged model: each submodule whose output is a feature map is a stage."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError
from mixunlearn.layout import channels_first
from mixunlearn.models.maps import MapShape, as_map, few
from mixunlearn.models.staged import StagedModel

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
RGB = 3
SHOWN = 30  # stages in an error message


class Wrapped(StagedModel):
    """Any classifier; only its `forward` is used.

    A stage has the name of its submodule (`layer3`, `encoder.layers.encoder_layer_5`). The default
    is the second to last of `stage_names`. Features are read by hooks that exist only during a call
    of `forward_with_features`, so copies, exported programs and state dicts contain no hooks.

    Dropout and stochastic depth are switched off, because they use PyTorch's global generator:
    trials could not be repeated.

    Attributes:
        plain: whether the network gets images in [0, 1] as they are.
        channels_last: whether images are channels last in memory; `False` for a network that calls
            `view`, which that layout does not allow.

    Args:
        network: maps images (B, channels, H, W) to logits (B, K), or to an object that has them as
            `logits`, as models of Hugging Face do; in training mode also to a tuple that begins
            with them.
        image_shape: (channels, H, W) of the images.
        mean: subtracted from images in [0, 1]; one number, or one for each channel.
        sd: the difference is divided by it; one number, or one for each channel.
        rgb: whether the network requires 3 channels; the channel of grey images is then repeated.

    Raises:
        ValueError: with `rgb`, if the images have neither 1 nor 3 channels.
    """

    mean_C11: Tensor
    sd_C11: Tensor

    def __init__(
        self,
        network: nn.Module,
        image_shape: tuple[int, int, int],
        mean: Sequence[float] = (0.0,),
        sd: Sequence[float] = (1.0,),
        *,
        rgb: bool = False,
    ) -> None:
        super().__init__()
        if rgb and image_shape[0] not in {1, RGB}:
            raise ValueError(f"takes images of 1 or {RGB} channels, these have {image_shape[0]}")
        self.network, self.rgb, self.channels_last = network, rgb, True
        self.plain = not rgb and {*mean} == {0.0} and {*sd} == {1.0}
        # Not persistent, so that the state dict contains only the network's weights.
        self.register_buffer("mean_C11", torch.tensor(mean).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("sd_C11", torch.tensor(sd).reshape(-1, 1, 1), persistent=False)
        _switch_dropout_off(network)
        # Found by one run, because a module does not tell the shape of its output.
        self.maps = self._maps(torch.zeros(2, *image_shape))
        self.stage_names = few(self.maps)
        self.default_stage = (*self.stage_names[-2:], "")[0]

    def forward_with_features(
        self, images: Tensor, names: Iterable[str]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits and the outputs of the named stages; see `StagedModel`."""
        images = self.scaled(images)
        found: dict[str, Tensor] = {}

        def keep(name: str, output: object) -> None:
            found_map = as_map(output, (images.shape[2], images.shape[3]))
            assert found_map is not None
            found[name] = found_map.clone()  # the next layers may change it in place

        # The look-up raises the KeyError that the interface promises for unknown names.
        with _watched(self.network, [name for name in names if self.maps[name]], keep):
            output = self.network(self._prepared(images))
        # In training mode, some networks add the logits of auxiliary heads, which are not used.
        if self.training and isinstance(output, tuple):
            output = output[0]
        logits: Tensor = output if isinstance(output, Tensor) else getattr(output, "logits", output)
        return logits, found

    def stages_with(self, wished: Iterable[str]) -> tuple[str, ...]:
        """Return `stage_names` and additional stages a user asks for; see `StagedModel`."""
        others = [name for name in dict.fromkeys(wished) if name not in self.stage_names]
        for name in others:
            if name not in self.maps:
                remedy = f"gives no feature map; {self._known(name)}"
                raise InputError("search.space.stage", name, remedy)
        return (*self.stage_names, *others)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:  # noqa: ANN401 (PyTorch's type for it is not public)
        """Load a state, also from a plain mapping, which lacks the layers' versions."""
        whole = self.state_dict()
        whole.clear()  # removes the tensors but keeps the versions, which MNASNet needs to load
        whole.update(state_dict)
        return super().load_state_dict(whole, strict, assign)

    def _known(self, name: str) -> str:
        """Return the nearest stage, and all stages with their shapes, the outer ones first."""
        shown = sorted(self.maps, key=lambda stage: stage.count("."))[:SHOWN]
        shapes = [f"{stage}: {'×'.join(map(str, self.maps[stage]))}" for stage in shown]
        if hidden := len(self.maps) - len(shown):
            shapes.append(f"and {hidden} inside of these")
        nearest, _, _ = known_names(name, self.maps).partition(" There are: ")
        return f"{nearest} There are: {', '.join(shapes)}"

    def _prepared(self, images: Tensor) -> Tensor:
        if self.rgb:
            images = images.expand(-1, RGB, -1, -1)
        prepared = (images - self.mean_C11) / self.sd_C11
        return prepared if self.channels_last else channels_first(prepared)

    @torch.no_grad()
    def _maps(self, images: Tensor) -> dict[str, MapShape]:
        """Return every stage with its shape, in the order in which they are computed."""
        calls, maps = Counter[str](), dict[str, MapShape]()

        def look(name: str, output: object) -> None:
            calls[name] += 1
            found = as_map(output, (images.shape[2], images.shape[3]))
            # The first axis of some outputs is not the batch, for example of Swin's windows.
            if found is not None and len(found) == len(images):
                maps[name] = (found.shape[1], found.shape[2], found.shape[3])

        names = [name for name, _ in self.network.named_modules() if name]
        with _watched(self.network, names, look):
            self.network.eval()(self._prepared(images))
        self.network.train()
        # If a module is called more than once, it is unclear which output is meant.
        return {name: shape for name, shape in maps.items() if calls[name] == 1}


@contextmanager
def _watched(
    network: nn.Module, names: Iterable[str], tell: Callable[[str, object], None]
) -> Iterator[None]:
    """Call `tell` with each output of the named submodules, within the context."""
    handles = [_hooked(network.get_submodule(name), name, tell) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hooked(module: nn.Module, name: str, tell: Callable[[str, object], None]) -> RemovableHandle:
    def hook(_module: nn.Module, _inputs: tuple[Any, ...], output: object) -> None:
        tell(name, output)

    return module.register_forward_hook(hook)


def _switch_dropout_off(network: nn.Module) -> None:
    for module in network.modules():
        # Stochastic depth is recognised by its name, because torchvision is optional.
        if isinstance(module, DROPOUTS) or type(module).__name__ == "StochasticDepth":
            module.p = 0.0  # type: ignore[assignment]
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0  # a number here, not a submodule
