"""The twin follows to another device with every tensor: shown without one, on torch's meta device.

A tensor that was made on the host meets one that is elsewhere, and torch refuses, as it would on CUDA. Whole numbers
(the shapes that Reshape reads) stay on the host: a meta tensor has no values to read, a CUDA tensor has.
"""

import pytest
import torch

from faithface.model import open_model
from faithface.model.twin import Twin
from tests.support.networks import tiny

AWAY = "meta"


def moved(model):
    """Return a new twin of the model whose floating-point tensors are on the meta device."""
    twin = Twin(model.proto, model.card, model.session.output, model.fixed_batch)
    for module in twin.modules():
        for name, buffer in list(module._buffers.items()):
            if buffer is not None and buffer.is_floating_point():
                module._buffers[name] = buffer.to(AWAY)
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[name] = torch.nn.Parameter(parameter.to(AWAY), requires_grad=False)
        left = [n for n, v in vars(module).items() if isinstance(v, torch.Tensor) and v.is_floating_point()]
        assert not left, f"{type(module).__name__} holds {left} where .to(device) does not find them"
    return twin


@pytest.mark.parametrize("kind", ["cnn", "depthwise", "arcface", "fixed-batch", "grey", "linear"])
def test_no_tensor_of_the_twin_stays_on_the_host(kind, tiny_folder):
    model = open_model(tiny(kind, "pad", tiny_folder))
    twin = moved(model)
    images = torch.empty((3, 3, *model.size), device=AWAY, requires_grad=True)
    out = twin(images)
    assert (out.device.type, tuple(out.shape)) == (AWAY, (3, 2))
    (gradient,) = torch.autograd.grad(out.sum(), images)
    assert (gradient.device.type, gradient.shape) == (AWAY, images.shape)


def test_a_tensor_that_stays_on_the_host_is_found(tiny_folder):
    model = open_model(tiny("cnn", "pad", tiny_folder))
    twin = moved(model)
    handle = twin.network.register_forward_pre_hook(lambda module, inputs: (inputs[0] + torch.ones(1, 3, 1, 1),))
    with pytest.raises(RuntimeError, match="device"):
        twin(torch.empty((3, 3, *model.size), device=AWAY))
    handle.remove()
