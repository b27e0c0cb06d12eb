"""The entropy coder: its two encoders and constriction's write the same words."""

from __future__ import annotations

import constriction
import numpy as np
import pytest
import torch

from chainrule.codec.coder import Decoder, edges_of, encode, push
from chainrule.sampling import engines


def drawn(levels, n=300):
    """Symbols and the frequencies of their distributions, some nearly certain."""
    generator = torch.Generator().manual_seed(levels)
    weight = torch.rand(n, levels, generator=generator, dtype=torch.float64) ** 30
    f = 1 + (weight / weight.sum(1, keepdim=True) * (2**22 - levels)).long()
    f[:, levels - 1] += 2**22 - f.sum(1)
    return torch.randint(levels, (n,), generator=generator), f


@pytest.mark.parametrize("levels", [2, 3, 17, 256, 3000])
def test_the_encoder_is_constrictions(levels):
    """Of two edges it makes what constriction makes of all frequencies."""
    symbols, f = drawn(levels)
    theirs = constriction.stream.stack.AnsCoder()
    model = constriction.stream.model.Categorical(perfect=False)
    theirs.encode_reverse(symbols.numpy().astype(np.int32), model, f.numpy() * 2.0**-22)
    words = encode([(symbols, edges_of(symbols, f), levels)])
    assert words == theirs.get_compressed().astype("<u4").tobytes()
    assert torch.equal(Decoder(words).decode(f.double() / 2**22), symbols)


@pytest.mark.parametrize("levels", [2, 256])
@pytest.mark.parametrize("state", [0, 1, 2**40 - 1, 2**63 + 12345])
def test_engines_push_what_the_plain_loop_pushes(levels, state):
    """From any state of the coder; nothing of no symbols."""
    for n in (0, 1, 300):
        symbols, f = drawn(levels, max(n, 1))
        symbols, found = symbols[:n], edges_of(symbols, f)[:n]
        wanted = push(state, symbols, found, levels)
        quick = engines.push(state, symbols, found, levels)
        assert quick is None or (quick[0] == wanted[0] and quick[1].tolist() == wanted[1].tolist())
        assert n or (wanted[0] == state and not len(wanted[1]))


def test_parts_come_out_in_their_order():
    """Of several numbers of levels; one level is no choice, and takes no space."""
    parts, tables = [], []
    for levels in (2, 200, 5):
        symbols, f = drawn(levels, 50)
        parts.append((symbols, edges_of(symbols, f), levels))
        tables.append(f)
    single = torch.zeros(9, dtype=torch.long), torch.tensor([[0, 2**22]]).expand(9, 2), 1
    assert encode([single]) == encode([]) == b""
    words = encode([parts[0], single, *parts[1:]])
    assert words == encode(parts)
    decoder = Decoder(words)
    for (symbols, *_), f in zip(parts, tables, strict=True):
        assert torch.equal(decoder.decode(f.double() / 2**22), symbols)
    decoder.finish()
