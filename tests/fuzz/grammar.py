"""Valid records, taken apart into the pieces that a mutation may exchange."""

from __future__ import annotations

REQUEST = [("protocol", '"json"'), ("version", "1")]
ACCEPTED: list[tuple[str, str]] = []

MESSAGES = [
    [("type", "1"), ("target", '"Tell"'), ("arguments", '[1,-2.50,"x",null,true,{"a":[]}]')],
    [("type", "1"), ("invocationId", '"7"'), ("target", '"Ask"'), ("arguments", "[]"), ("streamIds", '["8"]')],
    [("type", "2"), ("invocationId", '"7"'), ("item", '{"price":29547.25}')],
    [("type", "3"), ("invocationId", '"7"'), ("result", "null")],
    [("type", "3"), ("invocationId", '"7"'), ("error", '"it did not work"')],
    [("type", "3"), ("invocationId", '"7"')],
    [("type", "4"), ("invocationId", '"9"'), ("target", '"Quotes"'), ("arguments", '["MNQ"]')],
    [("type", "5"), ("invocationId", '"9"')],
    [("type", "6")],
    [("type", "7"), ("error", '"bye"'), ("allowReconnect", "true")],
    [("type", "8"), ("sequenceId", "1394")],
    [("type", "9"), ("sequenceId", "1234")],
    [("type", "99"), ("whatever", "[[1]]")],
]

KEYS = [
    *("type", "target", "invocationId", "arguments", "item", "result", "error", "allowReconnect", "sequenceId"),
    *("streamIds", "headers", "protocol", "version", "Type", "type ", "", "self", "__class__"),
]

VALUES = [
    *("null", "true", "false", '""', '"x"', '"F\u00fc\u00dfe \U0001f600"', "[]", "{}", "[null]", '{"":{}}'),
    *(
        "0",
        "1",
        "-1",
        "1.0",
        "1.5",
        "1.5e1",
        "10e-1",
        "-0",
        "-0.0",
        "3",
        "6",
        "7",
        "255",
        "9007199254740993",
        "2147483648",
    ),
    *("1e400", "1e-400", "1E+6144", "1e6145", "1e999999999", "-1e-999999999", "0e99999999999999999999"),
    *("9" * 1_000, "9" * 1_001, "9" * 5_000, "0." + "9" * 998, "0." + "9" * 999, "1." + "0" * 4_500),
    *("NaN", "Infinity", "-Infinity", "nan", "01", "+1", "1.", ".5", "1e", "0x1", "1_0", "\u0661"),
    *("'x'", '"', '"\\', '"\\x"', '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\u001e"', '"\t"', '"\x00"'),
    *("[" * 63 + "]" * 63, "[" * 62 + "]" * 62, "[" * 70 + "]" * 70, "[" * 3_000, "[" * 3_000 + "]" * 3_000),
    *('{"a":' * 3_000, '{"a":' * 70 + "1" + "}" * 70, "[" + "[]," * 70 + "[]]", "[1,]", "[,]", '{"a"}', "/* */1", "]"),
]


def write(fields: list[tuple[str, str]]) -> bytes:
    """Write a record, whatever its values are; without its separator."""
    return ("{" + ",".join(f'"{name}":{value}' for name, value in fields) + "}").encode("utf-8", "surrogatepass")


RECORDS = [write(fields) for fields in (REQUEST, ACCEPTED, *MESSAGES)]
