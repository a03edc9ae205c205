"""The default architecture, `grid`: a code that is a small grid, decoded to a feature grid and a tiny MLP.

f(x; z, e) = MLP(trilinear(D(z, e), x)): z a spatial latent code (16 numbers in each of 8^3 cells), e the evidence's
own features, passed across at full resolution as in a U-Net (Ronneberger 2015; for occupancy: Convolutional Occupancy
Networks, Peng 2020). Without evidence (e = 0) D is an ordinary decoder, so that codes can be generated and blended;
with it what was observed keeps its detail. The encoder's code is where completion starts; its posterior variance says
how much each number of the code is known.
"""

from __future__ import annotations

from typing import Annotated, Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import fused, losses
from ..arguments import Range
from ..base import (
    Clouds,
    Evidence,
    Examples,
    Family,
    Objective,
    Posterior,
    Schedule,
    SpatialFeatures,
    Weights,
)
from ..objectives import CLAMP, gradient_loss
from ..observations import evidence as ev
from ..registry import register
from ..shapes import Implicit

_HAS_MKLDNN = bool(torch._C._has_mkldnn)

_UNIT = 0.1
"""The signed distance for an output of 1 of the point MLP."""


class _FrozenConvolution(torch.autograd.Function):
    """Convolution of one float32 volume with weights that are not learnt, on the CPU, by the vectorised kernels.

    torch picks the plain loop again for the gradient, ten times slower than the convolution itself. The gradient of a
    convolution in its input is one too: with the weights mirrored and transposed, of the output's gradient, between
    whose numbers a stride leaves zeros. That of the gradient is one again, and so on.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(input: Tensor, weight: Tensor, bias: Tensor | None, padding: int, stride: int) -> Tensor:
        out: Tensor = torch.mkldnn_convolution(input, weight, bias, (padding,) * 3, (stride,) * 3, (1,) * 3, 1)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None, int, int], output: Tensor) -> None:
        input, weight, _, ctx.padding, ctx.stride = inputs
        ctx.shape = input.shape
        ctx.save_for_backward(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (weight,) = ctx.saved_tensors
        kernel = weight.shape[2]
        if ctx.stride > 1:
            # Back to the input's size: output cell o stands at o * stride, and what the stride left out is zero.
            apart = [size + 2 * ctx.padding - kernel + 1 for size in ctx.shape[2:]]
            spread = gradient.new_zeros(*gradient.shape[:2], *apart)
            spread[:, :, :: ctx.stride, :: ctx.stride, :: ctx.stride] = gradient
            gradient = spread
        mirrored = weight.flip(2, 3, 4).transpose(0, 1)
        return _frozen(gradient, mirrored, None, kernel - 1 - ctx.padding, 1), None, None, None, None


def _frozen(input: Tensor, weight: Tensor, bias: Tensor | None, padding: int, stride: int) -> Tensor:
    if torch.is_grad_enabled() and input.requires_grad:
        apply: Any = _FrozenConvolution.apply  # without annotations in torch
        out: Tensor = apply(input, weight, bias, padding, stride)
    else:
        out = torch.mkldnn_convolution(input, weight, bias, (padding,) * 3, (stride,) * 3, (1,) * 3, 1)
    return out


class _Conv3d(nn.Conv3d):
    """nn.Conv3d that asks for the vectorised CPU kernel where torch's own rule of thumb declines it.

    For one small float32 volume that rule picks a plain loop, several times slower; a completion is just that.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        plain = input.device.type == "cpu" and input.dtype == torch.float32 and weight.dtype == torch.float32
        if plain and _HAS_MKLDNN and not torch.is_autocast_enabled("cpu"):
            padding = cast("tuple[int, ...]", self.padding)
            if not weight.requires_grad and (bias is None or not bias.requires_grad):
                return _frozen(input, weight, bias, padding[0], self.stride[0])
            out: Tensor = torch.mkldnn_convolution(
                input, weight, bias, padding, self.stride, self.dilation, self.groups
            )
            return out
        usual: Tensor = super()._conv_forward(input, weight, bias)
        return usual


def _activated(x: Tensor) -> Tensor:
    """SiLU of x brought to unit root mean square, one number a sample: keeps a deep network without other normalisation
    from running away, at a tenth of what group normalisation costs on a CPU."""
    power = x.square().mean((1, 2, 3, 4), keepdim=True, dtype=torch.float32)
    return F.silu(x * torch.rsqrt(power + 1e-6).to(x.dtype))


class _Residual(nn.Module):
    """x + conv(act(conv(act(x)))), starting as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _Conv3d(width, width, 3, padding=1)
        self.second = _Conv3d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        assert self.second.bias is not None
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(F.silu(self.first(_activated(x))))
        return x + change


def _up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def _only_bias(layer: nn.Conv3d, like: Tensor) -> Tensor:
    assert layer.bias is not None
    return layer.bias.to(like.dtype).view(1, -1, 1, 1, 1)


@register
class GridField(Family):
    """Encoder, decoder and point MLP of the `grid` architecture.

    code_channels: numbers a code cell.  width: features of the 32^3 grid; deeper levels have 2, 4 and 6 times as many.
    hidden: width of the point MLP.  resolution: cells along the evidence and the features.
    """

    name = "grid"
    about = "a code of 8^3 cells, evidence features, and a small MLP on interpolated features"
    code_about = "spatial Gaussian, mean and variance from the encoder"
    can = frozenset({"encode", "features"})
    schedule = Schedule(steps=10, rate=0.02, newton=6)
    thicken = 0.004
    """What is a hundredth of the size thick (the least that training knows) is regressed a little too thin and would
    tear; seen from evidence it does not."""

    def __init__(
        self,
        code_channels: Annotated[int, Range(1, 64)] = 16,
        width: Annotated[int, Range(1, 64)] = 16,
        hidden: Annotated[int, Range(1, 256)] = 32,
        resolution: Annotated[int, Range(8, 64, 8)] = 32,
    ) -> None:
        super().__init__()
        self.arguments = {
            "code_channels": code_channels, "width": width, "hidden": hidden, "resolution": resolution,
        }
        self.resolution = resolution
        self.mixed = fused.mixed_by_default()
        self.code_shape = (code_channels, resolution // 4, resolution // 4, resolution // 4)
        w1, w2, w3, w4 = width, 2 * width, 4 * width, 6 * width
        # Encoder
        self.e1 = _Conv3d(ev.CHANNELS, w1, 1)
        self.e1b = _Conv3d(w1, w1, 3, padding=1)
        self.e2 = _Conv3d(w1, w2, 3, stride=2, padding=1)
        self.e2b = _Residual(w2)
        self.e3 = _Conv3d(w2, w3, 3, stride=2, padding=1)
        self.e3b = _Residual(w3)
        self.e4 = _Conv3d(w3, w4, 3, stride=2, padding=1)
        self.e4b = nn.Sequential(_Residual(w4), _Residual(w4))
        self.e5 = _Conv3d(w4, w3, 1)
        self.e6 = _Conv3d(2 * w3, w3, 1)
        self.e6b = _Residual(w3)
        self.to_code = _Conv3d(w3, 2 * code_channels, 1)
        # Decoder
        self.d1 = _Conv3d(code_channels + 3, w3, 3, padding=1)
        self.d1b = _Residual(w3)
        self.d2 = _Conv3d(w3, w4, 3, stride=2, padding=1)
        self.d2b = nn.Sequential(_Residual(w4), _Residual(w4))
        self.d3 = _Conv3d(w4, w3, 1)
        self.d3b = _Residual(w3)
        self.d4 = _Conv3d(w3, w2, 1)
        self.d4s = _Conv3d(w2, w2, 1)
        self.d4b = nn.Sequential(_Conv3d(w2, w2, 3, padding=1), _Residual(w2))
        self.d5 = _Conv3d(w2, w1, 1)
        self.d5s = _Conv3d(w1, w1, 1)
        self.d5b = _Conv3d(w1, w1, 3, padding=1)
        self.features = _Conv3d(w1, w1, 1)
        # Point MLP
        self.m1 = nn.Linear(w1 + 3, hidden)
        self.m2 = nn.Linear(hidden, hidden)
        self.m3 = nn.Linear(hidden, 1)
        bias = self.to_code.bias
        assert bias is not None
        nn.init.constant_(bias, 0.0)
        with torch.no_grad():
            bias[code_channels:] = -3.0
            self.to_code.weight[code_channels:] *= 0.1

        for name, module in self.named_modules():
            learnt_from_zero = name.endswith("second") or name in ("to_code", "m3")
            if isinstance(module, (nn.Conv3d, nn.Linear)) and not learnt_from_zero:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def laid_out(self) -> Self:
        """Itself, its convolutions' weights laid out as the fastest kernels want them."""
        move: Any = self.to  # torch's annotations of Module.to lack memory_format
        move(memory_format=torch.channels_last_3d)
        return self

    def warm(self) -> None:
        """Compile the fused kernels, where they would be used."""
        if self.m1.weight.device.type == "cpu":
            fused.warm()

    def observe(self, clouds: Clouds) -> Tensor:
        """(B, CHANNELS, R, R, R): the evidence grid."""
        return ev.grid_of(clouds, self.resolution).contiguous(memory_format=torch.channels_last_3d)

    def encode(self, observation: Tensor) -> Posterior:
        """The evidence grid -> code posterior and the evidence's own features at R/2 and R, passed across."""
        s32 = F.silu(self.e1b(F.silu(self.e1(observation))))
        s16 = self.e2b(self.e2(s32))
        s8 = self.e3b(self.e3(_activated(s16)))
        s4 = self.e4b(self.e4(_activated(s8)))
        s4 = s4 + s4.mean((2, 3, 4), keepdim=True)
        x = self.e6b(self.e6(torch.cat([_activated(s8), _up(self.e5(_activated(s4)))], 1)))
        mean, log_variance = self.to_code(_activated(x)).chunk(2, 1)
        return Posterior(mean, log_variance.clamp(-6, 2), Evidence((s16, s32)))

    def context(self, code: Tensor) -> Tensor:
        """code: (B, C, 8, 8, 8) -> what each cell of the code and those about it say, (B, 4 width, 8, 8, 8)."""
        r = self.code_shape[1]
        axis = (torch.arange(r, device=code.device, dtype=code.dtype) + 0.5) / r * 2 - 1
        xyz = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).expand(code.shape[0], -1, -1, -1, -1)
        x = self.d1b(self.d1(torch.cat([code, xyz], 1)))
        y = self.d2b(self.d2(_activated(x)))
        y = y + y.mean((2, 3, 4), keepdim=True)
        found: Tensor = self.d3b(x + _up(self.d3(_activated(y))))
        return found

    def decode(self, code: Tensor, evidence: Evidence | None = None) -> Implicit:
        """code: (B, C, 8, 8, 8)."""
        return Implicit(self.query, self.unfold(self.context(code), evidence))

    def unfold(self, context: Tensor, evidence: Evidence | None = None) -> Tensor:
        """The second half of the decoder: the feature grid (B, width, 32, 32, 32)."""
        skip16, skip32 = (None, None) if evidence is None else evidence.parts
        x = context
        # No evidence is evidence of zeros, of which only the biases are left: as in training, when it is dropped.
        x = _up(self.d4(_activated(x)))
        x = x + (_only_bias(self.d4s, x) if skip16 is None else self.d4s(_activated(skip16)))
        x = self.d4b(_activated(x))
        x = _up(self.d5(_activated(x)))
        x = x + (_only_bias(self.d5s, x) if skip32 is None else self.d5s(skip32))
        x = self.d5b(_activated(x))
        features: Tensor = self.features(_activated(x))
        return features

    def query(self, features: Tensor, points: Tensor) -> Tensor:
        """features: (B, width, R, R, R) from `unfold`; points (B, P, 3) -> signed distance (B, P).

        Where no gradients are kept it takes the faster roads of `fused`.
        """
        if self.mixed and not torch.is_grad_enabled() and features.dtype == torch.float32:
            return fused.mixed_values(self._query, features, points)
        return self._query(features, points)

    def _query(self, features: Tensor, points: Tensor) -> Tensor:
        layers = (self.m1, self.m2, self.m3)
        if fused.applies(features, points, self.m1.weight):
            weights = [tensor for layer in layers for tensor in (layer.weight, layer.bias)]
            return fused.grid_values(features, points, weights, _UNIT)
        h = torch.cat([ev.interpolate(features, points), points.to(features.dtype)], -1)
        h = F.silu(self.m1(h))
        h = F.silu(self.m2(h))
        value: Tensor = self.m3(h)
        return _UNIT * value.squeeze(-1)

    # What was seen, cell by cell ----------------------------------------------------------------------------------

    def seen(self, observation: Tensor) -> Tensor:
        """(1, 1, 8, 8, 8) share of each code cell's space that was observed."""
        return F.adaptive_avg_pool3d(observed_space(observation), self.code_shape[-1])

    def drift(self, mean: Tensor, generator: torch.Generator) -> Tensor:
        """Smooth in space."""
        coarse = torch.randn((*mean.shape[:2], 3, 3, 3), generator=generator).to(mean.device)
        return F.interpolate(coarse, size=mean.shape[2:], mode="trilinear", align_corners=True)

    def lean(self, posterior: Posterior, observation: Tensor, other: Tensor, strength: float) -> Posterior:
        """Code and features stay where points or empty space were observed; elsewhere the code moves to the other one
        and the features, which there are the encoder's one guess, fade."""
        assert posterior.evidence is not None
        skip16, skip32 = posterior.evidence.parts
        seen = observed_space(observation)
        code_seen = F.adaptive_avg_pool3d(seen, posterior.mean.shape[-1])
        unseen16 = 1 - F.adaptive_avg_pool3d(seen, skip16.shape[-1])
        faded = skip16 * (1 - strength * unseen16), skip32 * (1 - strength * (1 - seen))
        mean = posterior.mean + strength * (1 - code_seen) * (other - posterior.mean)
        return Posterior(mean, posterior.log_variance, Evidence(faded))

    def spatial_features(self, code: Tensor, evidence: Evidence | None = None) -> SpatialFeatures:
        """The context's cells and the feature grid, and the point MLP that reads it."""
        coarse = self.context(code)
        even = coarse * torch.rsqrt(coarse.square().mean((1, 2, 3, 4), keepdim=True) + 1e-6)
        reader = tuple(t for layer in (self.m1, self.m2, self.m3) for t in (layer.weight, layer.bias))
        return SpatialFeatures(self.unfold(coarse, evidence), even, reader, _UNIT)

    def objective(self, settings: Weights, seats: int) -> GridObjective:
        return GridObjective(self, settings)


_EMPTY_CHANNEL = 10
"""Of the evidence grid: space that was looked through (see engine.fields.observations.evidence)."""


def observed_space(grid: Tensor) -> Tensor:
    """(1, CHANNELS, R, R, R) evidence -> (1, 1, R, R, R), 1 where points or empty space were seen, fading to 0."""
    seen = (grid[:, :1] > 0) | (grid[:, _EMPTY_CHANNEL : _EMPTY_CHANNEL + 1] > 0.15)
    wide = F.max_pool3d(seen.to(grid.dtype), 3, 1, 1)
    return F.avg_pool3d(wide, 3, 1, 1, count_include_pad=False)


class GridObjective(Objective):
    """Clamped L1 on distances, most of it near the surface; inside-outside cross-entropy; a variational code."""

    def __init__(self, field: GridField, settings: Weights) -> None:
        super().__init__()
        self.field: GridField = field
        self.settings = settings

    def forward(self, observation: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
        """The loss and its parts (distance in thousandths, sign, kl)."""
        queries, distances, signed = examples.queries, examples.distances, examples.signed
        posterior = self.field.encode(observation)
        mean, log_variance = posterior.mean.float(), posterior.log_variance.float()
        code = mean + examples.noise * (0.5 * log_variance).exp()
        assert posterior.evidence is not None
        shape = self.field.decode(code.to(posterior.mean.dtype), posterior.evidence.masked(examples.keep))
        with torch.autocast(observation.device.type, enabled=False):
            features = shape.features.float()
            predicted = self.field.query(features, queries)
            near = 1 + 3 * torch.exp(-distances.abs() / 0.02)
            target = distances.clamp(-CLAMP, CLAMP)
            error = torch.where(
                signed[:, None] > 0, (predicted - target).abs(), losses.sign_agnostic(predicted, target)
            )
            distance = (error * near).mean() / near.mean()
            sign = losses.sign_cross_entropy(predicted, distances, weight=signed[:, None].expand_as(distances))
            kl = losses.gaussian_kl(mean, log_variance)
            loss = 10 * distance + self.settings.sign * sign + self.settings.kl * kl
            loss = loss + gradient_loss(
                lambda x: self.field.query(features, x), queries, distances, examples.gradients, signed, self.settings
            )
        return loss, torch.stack([1000 * distance.detach(), sign.detach(), kl.detach()])
