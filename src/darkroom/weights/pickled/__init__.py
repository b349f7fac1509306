"""PyTorch's pickles (.ckpt, .pt, .pth, .bin) read without running anything in them; no torch.

    read_pickled(path) -> Header       or BadFile, which names the code that a file holds

A pickle is a program for a small stack machine, and Python's own machine imports and calls whatever
the program says. Ours (`machine`) has the same instructions and no power: a name stays a name, a
call becomes a record of what would have been called. What such records mean is looked up afterwards
in tables: which names rebuild a tensor (`tensors`), which are data, unknown or code (`names`). The
tensors' numbers are never touched here: they lie in the members of a zip (`archive`) or behind each
other at the end of an older file (`legacy`), and a table of their places is all that is made.

Why not a subclass of `pickle.Unpickler` whose `find_class` gives inert classes? It would be forty
lines instead of two hundred, but the machine behind it stays Python's: one opcode makes it allocate
a memo of 2**31 places, another as many bytes as it claims, keys of a dictionary are hashed (numbers
can be chosen to collide), `__setstate__`, `append` and `extend` are looked up on whatever lies on
the stack, nested tuples are hashed by recursion in C, and what the next version of Python adds is
added to it. Here time and memory are bounded by the length of the program, which is bounded by the
file's: nothing is copied twice, no dictionary is built from a stranger's keys but those of text.
An SDXL checkpoint, 2,515 tensors, takes 0.1 s.
"""

from darkroom.weights.pickled.read import read_pickled

__all__ = ["read_pickled"]
