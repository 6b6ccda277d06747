"""Small values lie together in one file, which gives room again for what comes later."""

import itertools
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from persicache import SpillDict
from persicache.mappings.spill_pile import Pile


def test_a_pile_is_as_a_dictionary_of_bytes_and_uses_its_room_again(tmp_path):
    pile, slots, chance = Pile(str(tmp_path / "pile")), {}, random.Random(1)
    peak = 0
    for step in range(5000):
        if slots and chance.random() < 0.5:
            slot, data = slots.popitem() if step % 2 else (first := next(iter(slots)), slots.pop(first))
            assert pile.read(slot, len(data)) == data
            pile.remove(slot, len(data))
        else:
            data = chance.randbytes(chance.choice([0, 1, 63, 64, 65, 1000, 1100, 65_536]))
            slots[pile.write(data)] = data
        peak = max(peak, sum(len(data) + 64 for data in slots.values()))
        assert len(pile) == len(slots)
    assert all(pile.read(slot, len(data)) == data for slot, data in slots.items())
    # One part in eight, and what is free in slots of other sizes.
    assert (tmp_path / "pile").stat().st_size < 2.5 * peak


def test_slots_do_not_overlap(tmp_path):
    pile = Pile(str(tmp_path / "pile"))
    slots = sorted((pile.write(bytes([n % 256]) * n), n) for n in range(3000))
    for (one, nbytes), (next_one, _) in itertools.pairwise(slots):
        assert one + nbytes <= next_one
        assert next_one - one <= max(nbytes * 9 / 8, nbytes + 64)


def test_what_could_not_be_written_takes_no_room(tmp_path, monkeypatch):
    pile = Pile(str(tmp_path / "pile"))

    def refuse(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", refuse)
        with pytest.raises(OSError, match="No space"):
            pile.write(b"x")
    assert len(pile) == 0
    assert pile.write(b"y") == 0


def test_an_interrupt_while_the_pile_is_made_costs_nothing(monkeypatch):
    real = Pile.__init__

    def interrupted(*args):
        real(*args)
        raise KeyboardInterrupt

    with SpillDict(available_memory=1) as c:
        with monkeypatch.context() as patch:
            patch.setattr(Pile, "__init__", interrupted)
            with pytest.raises(KeyboardInterrupt):
                c["a"] = 1
        c["a"] = 1
        assert c["a"] == 1


def test_what_is_written_in_pieces_is_whole(tmp_path, monkeypatch):
    pile, pwrite = Pile(str(tmp_path / "pile")), os.pwrite
    monkeypatch.setattr("os.pwrite", lambda fd, data, offset: pwrite(fd, data[:7], offset))
    text = b"a short text and more"
    assert pile.read(pile.write(text), len(text)) == text


def test_small_values_have_no_file_each_and_large_ones_have():
    with SpillDict(available_memory="1 MiB") as c:
        for i in range(3000):
            c[i] = bytes(1000)
        for i in range(10):
            c["large", i] = bytes(200_000)
        c.flush()
        folder = Path(c._place._directory.path)
        assert len(list(folder.glob("*.pc"))) == 10
        assert 3_000_000 < (folder / ".pile").stat().st_size < 3_900_000
        for round_ in range(20):
            for i in range(3000):
                c[i] = f"{round_} {i}" * 50
        c.flush()
        assert all(c[i] == f"19 {i}" * 50 for i in range(3000))
        # A value that is being replaced may be there twice.
        assert (folder / ".pile").stat().st_size < 8_000_000


def test_what_is_read_while_its_slot_goes_to_another_value_is_not_handed_out(monkeypatch):
    old, others = np.zeros(4000), np.ones(4000)
    with SpillDict({"k": old}, available_memory=1024) as c, ThreadPoolExecutor(1) as meanwhile:
        pread = os.pread

        def half_of_each(fd, nbytes, offset):
            monkeypatch.setattr("os.pread", pread)
            first = pread(fd, nbytes // 2, offset)
            meanwhile.submit(c.update, {"k": "new", "other": others}).result()
            return first + pread(fd, nbytes - nbytes // 2, offset + nbytes // 2)

        monkeypatch.setattr("os.pread", half_of_each)
        assert isinstance(c["k"], str)
        assert (c["other"] == 1).all()
