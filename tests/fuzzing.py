"""Damaged files for tests: seeded, and with limits of time and memory for what reads them."""

import resource
import signal
from contextlib import contextmanager

import numpy as np

#: What a case may cost.
SECONDS, BYTES = 10, 2**30


@contextmanager
def limits(seconds=SECONDS, more=BYTES):
    """Whoever takes longer gets a TimeoutError, whoever takes more memory a MemoryError."""

    def late(*args):
        raise TimeoutError(f"took more than {seconds} s")

    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before, handler = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (used + more, before[1]))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def damaged(content, seed, fields=((0, None),), record=None):
    """
    Bytes with some of them changed: a few flipped, a stretch overwritten, cut, doubled or moved.

    :param content: Bytes
    :param seed: Seed
    :param fields: First byte and byte after the last of parts that are hit in half of the cases
    :param record: Bytes after which the fields come again
    """
    random, data = np.random.default_rng(seed), bytearray(content)
    for _ in range(int(random.integers(1, 6))):
        at = int(random.integers(len(data)))
        if random.random() < 0.5:
            first, stop = fields[random.integers(len(fields))]
            start = at // record * record if record else 0
            at = min(start + int(random.integers(first, stop or len(data))), len(data) - 1)
        length = int(random.choice([1, 1, 1, 2, 4, 30, 700]))
        kinds = {"bits": 0.4, "noise": 0.2, "zeros": 0.1, "ones": 0.1, "double": 0.1, "drop": 0.05, "cut": 0.05}
        kind = random.choice(list(kinds), p=list(kinds.values()))
        part = data[at : at + length]
        if kind == "bits":
            data[at] ^= 1 << int(random.integers(8))
        elif kind == "noise":
            data[at : at + length] = random.bytes(len(part))
        elif kind in ("zeros", "ones"):
            data[at : at + length] = (b"\0" if kind == "zeros" else b"\xff") * len(part)
        elif kind == "cut":
            del data[at + 1 :]
        elif kind == "double":
            data[at:at] = part
        else:
            del data[at : at + length]
        if not data:
            data += b"\0"
    return bytes(data)


def survives(load, path, content, seeds, allowed, **kwargs):
    """
    Give damaged versions of a file to what reads it: it either does, or says in one printable line why not.

    :param load: Function of a path
    :param path: File to write
    :param content: Its undamaged content
    :param seeds: A seed for each case
    :param allowed: Exceptions that `load` may raise
    :param kwargs: For :py:func:`damaged`
    """
    for seed in seeds:
        path.write_bytes(damaged(content, seed, **kwargs))
        try:
            with limits():
                load(path)
        except allowed as error:
            assert str(error).isprintable(), seed
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
