"""Split computing: what a head on the device sends to a tail on a server, in bytes.

`tables` holds integer frequency tables, `coder` turns integer symbols into a stream and back (in C
where a compiler is found, else in Python, with the same bytes), `quantise8` serves heads without
an entropy model, `codec` makes one payload of an image's bottleneck and `packet` wraps it for a
wire. A head gives integer symbols N C H W; only `of_network` and
`early_exit`, which know networks, need torch.
"""
