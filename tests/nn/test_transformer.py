import pytest
import torch
from torch import nn

from ultralytics.nn.modules.transformer import AIFI, MLP, TransformerEncoderLayer
from ultralytics.utils.errors import ModelConfigError


@torch.no_grad()
def test_pre_norm_keeps_the_residual_path():
    layer = TransformerEncoderLayer(16, 32, 4, normalize_before=True).eval()
    for branch in (layer.ma.out_proj, layer.fc2):
        nn.init.zeros_(branch.weight)
        nn.init.zeros_(branch.bias)
    tokens = torch.rand(2, 5, 16)
    assert torch.equal(layer(tokens), tokens)  # post-norm would normalize it


def test_aifi_numbers_the_positions_row_by_row():
    embedding = AIFI.build_2d_sincos_position_embedding(w=3, h=2, embed_dim=4)
    row, column = torch.tensor([[0.0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]).T
    expected = torch.stack((row.sin(), row.cos(), column.sin(), column.cos()), 1)
    torch.testing.assert_close(embedding[0], expected)


def test_aifi_channels_must_be_a_multiple_of_4():
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        AIFI(6, 8, 2)(torch.rand(1, 6, 4, 4))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-4), (torch.bfloat16, 0.2)])
@torch.no_grad()
def test_aifi_runs_in_other_types(dtype, tolerance):
    encoder, x = AIFI(16, 32, 4).eval(), torch.rand(2, 16, 7, 5)
    expected = encoder(x)
    got = encoder.to(dtype)(x.to(dtype))
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), expected, rtol=0, atol=tolerance)


def test_methods_of_the_published_encoder_layer_may_be_replaced():
    class Doubled(AIFI):
        def forward_post(self, src, src_mask=None, src_key_padding_mask=None, pos=None):
            return 2 * super().forward_post(src, src_mask, src_key_padding_mask, pos)

    x, ours = torch.rand(1, 16, 4, 4), AIFI(16, 32, 4).eval()
    doubled = Doubled(16, 32, 4).eval()
    doubled.load_state_dict(ours.state_dict())
    torch.testing.assert_close(doubled(x), 2 * ours(x))


@torch.no_grad()
def test_mlp_adds_its_input_before_the_norm():
    layer = MLP(8, 16, 8, 2, residual=True, out_norm=nn.LayerNorm(8), sigmoid=True)
    first, second = layer.layers
    x = torch.rand(3, 8)
    torch.testing.assert_close(layer(x), layer.out_norm(x + second(first(x).relu())).sigmoid())
    with pytest.raises(ModelConfigError, match="MLP with residual"):
        MLP(8, 16, 4, 2, residual=True)
