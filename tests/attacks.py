"""Malicious pickles, which attack the process that loads them."""

import collections
import os
import pickle
import struct

import numpy as np


class Call:
    """Pickles as a call of `function` with `arguments`, then the setting of a state."""

    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.parts


class StateSetter:
    def __reduce__(self):
        return collections.OrderedDict, (), {"__class__": "x", "update": "y"}


def text(module, name, argument):
    """A pickle of protocol 0 that calls a global with one text."""
    return f"c{module}\n{name}\n(V{argument}\ntR.".encode()


def attacks(target):
    """Pickles that try to create the file `target`, by the name of the attack."""
    code = f"open({str(target)!r}, 'w')"
    evil_array = np.array([Call(os.system, f"touch {target}")], dtype=object)
    return {
        "os.system": pickle.dumps({"w": Call(os.system, f"touch {target}")}),
        "os.system, protocol 0": pickle.dumps({"w": Call(os.system, f"touch {target}")}, protocol=0),
        "text": text("posix", "system", f"touch {target}"),
        "INST": f"(S'touch {target}'\niposix\nsystem\n.".encode(),
        "eval": pickle.dumps({"w": Call(eval, code)}),
        "exec": pickle.dumps(Call(exec, code)),
        "getattr": pickle.dumps({"w": Call(getattr, "x", "format")}),
        "open": pickle.dumps({"w": Call(open, str(target), "w")}),
        "np.load": pickle.dumps({"w": Call(np.load, str(target))}),
        "np.savetxt": pickle.dumps({"w": Call(np.savetxt, str(target), [1.0])}),
        "np.memmap": pickle.dumps({"w": Call(np.memmap, str(target), "u1", "w+", 0, (4,))}),
        "ndarray.tofile": pickle.dumps({"w": Call(np.ndarray.tofile, np.ones(1), str(target))}),
        "numpy.testing": b"\x80\x02cnumpy.testing._private.utils\nrunstring\n(X" + packed(code) + b"}tR.",
        "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x12ndarray.__class__.x\x93.",
        "pickle.loads": pickle.dumps({"w": Call(pickle.loads, pickle.dumps(Call(os.system, f"touch {target}")))}),
        "objects in an array": pickle.dumps({"w": evil_array}),
        "state of a mapping": pickle.dumps({"w": StateSetter()}),
        "state of a stand-in": b"\x80\x02cnumpy\nndarray\n}X" + packed("value") + b"K\x01sb.",
        "state of a function": b"\x80\x02c_codecs\nencode\n}X" + packed("__doc__") + b"K\x01sb.",
        "NEWOBJ": b"\x80\x02cnumpy\nndarray\nK\x04\x85\x81.",
        "persistent id": b"\x80\x02X" + packed("a") + b"Q.",
        "extension registry": b"\x80\x02\x82\x01.",
        "codec module": b"\x80\x02c_codecs\nencode\nX" + packed("x") + b"X" + packed("uu_codec") + b"\x86R.",
        "type of structure": numpy_array(dtype="V8", state=(3, "|", None, ("a",), {"a": ("O", 0)}, 8, 1, 27)),
        "type of objects": numpy_array(dtype="O8", state=(3, "|", None, None, None, -1, -1, 63)),
    }


def packed(value):
    return struct.pack("<I", len(value)) + value.encode()


def numpy_array(*, dtype="f4", state=(3, "<", None, None, None, -1, -1, 0), shape=(2,), data=b"\0" * 8):
    """A pickle of {"w": array} as NumPy writes it, with what it says put in freely."""

    class Type:
        def __reduce__(self):
            return np.dtype, (dtype, False, True), state

    class Array:
        def __reduce__(self):
            reconstruct = np.zeros(1).__reduce__()[0]
            return reconstruct, (np.ndarray, (0,), b"b"), (1, shape, Type(), False, data)

    return pickle.dumps({"w": Array()})
