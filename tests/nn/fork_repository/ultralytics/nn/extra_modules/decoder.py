import torch
from torch import nn

from ..modules.head import RTDETRDecoder
from ..modules.transformer import DeformableTransformerDecoder, DeformableTransformerDecoderLayer

__all__ = ["RTDETRDecoder_Gated", "RTDETRDecoder_Long", "RTDETRDecoder_Parts", "RTDETRDecoder_Steps"]


class RTDETRDecoder_Gated(RTDETRDecoder):
    def __init__(self, nc=80, ch=(512, 1024, 2048), hd=256, nq=300, ndp=4, nh=8, ndl=6):
        super().__init__(nc, ch, hd, nq, ndp, nh, ndl)
        self.gates = nn.ModuleList(nn.Conv2d(c, c, 1) for c in ch)

    def forward(self, x, batch=None):
        return super().forward([part * gate(part).sigmoid() for part, gate in zip(x, self.gates)], batch)


class RTDETRDecoder_Steps(RTDETRDecoder):  # the published forward
    def forward(self, x, batch=None):
        from ultralytics.models.utils.ops import get_cdn_group

        feats, shapes = self._get_encoder_input(x)
        sizes = self.nc, self.num_queries, self.denoising_class_embed.weight, self.num_denoising
        noise = self.label_noise_ratio, self.box_noise_scale
        dn_embed, dn_bbox, attn_mask, dn_meta = get_cdn_group(batch, *sizes, *noise, self.training)
        embed, refer_bbox, enc_bboxes, enc_scores = self._get_decoder_input(feats, shapes, dn_embed, dn_bbox)
        heads = self.dec_bbox_head, self.dec_score_head, self.query_pos_head
        dec_bboxes, dec_scores = self.decoder(embed, refer_bbox, feats, shapes, *heads, attn_mask=attn_mask)
        x = dec_bboxes, dec_scores, enc_bboxes, enc_scores, dn_meta
        if self.training:
            return x
        y = torch.cat((dec_bboxes.squeeze(0), dec_scores.squeeze(0).sigmoid()), -1)
        return y if self.export else (y, x)


class LongLayer(DeformableTransformerDecoderLayer):  # the published forward
    def forward(self, embed, refer_bbox, feats, shapes, padding_mask=None, attn_mask=None, query_pos=None):
        q = k = self.with_pos_embed(embed, query_pos)
        tgt = self.self_attn(q.transpose(0, 1), k.transpose(0, 1), embed.transpose(0, 1), attn_mask=attn_mask)[0]
        embed = self.norm1(embed + self.dropout1(tgt.transpose(0, 1)))
        query = self.with_pos_embed(embed, query_pos)
        tgt = self.cross_attn(query, refer_bbox.unsqueeze(2), feats, shapes, padding_mask)
        return self.forward_ffn(self.norm2(embed + self.dropout2(tgt)))


class RTDETRDecoder_Long(RTDETRDecoder):
    def __init__(self, nc=80, ch=(512, 1024, 2048), hd=256, nq=300, ndp=4, nh=8, ndl=6):
        super().__init__(nc, ch, hd, nq, ndp, nh, ndl)
        self.decoder = DeformableTransformerDecoder(hd, LongLayer(hd, nh, 1024, 0.0, nn.ReLU(), self.nl, ndp), ndl)


class RTDETRDecoder_Parts(RTDETRDecoder):  # replaces parts of the published forward
    def _get_encoder_input(self, x):
        return super()._get_encoder_input([2 * part for part in x])

    def _get_decoder_input(self, feats, shapes, dn_embed=None, dn_bbox=None):
        return super()._get_decoder_input(feats / 2, shapes, dn_embed, dn_bbox)

    def _generate_anchors(self, shapes, grid_size=0.05, dtype=torch.float32, device="cpu", eps=1e-2):
        anchors, valid = super()._generate_anchors(shapes, 0.5, dtype, device, eps)
        return anchors, valid
