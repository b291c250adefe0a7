

import sys

for line in sys.stdin:
    name, argument, key = line.rstrip("\n").split("\t")
    key = bytes.fromhex(key)
    text = bytes.fromhex(argument).decode() if name.startswith("from") else ""
    try:
        if name == "decode":
            time, machine, sequence = decode(int(argument))
            print(time.isoformat(timespec="milliseconds").replace("+00:00", "Z"), machine, sequence)
        elif name == "to_text":
            print(to_text(int(argument)))
        elif name == "from_text":
            print(from_text(text))
        elif name == "to_opaque":
            print(to_opaque(int(argument), key))
        elif name == "from_opaque":
            print(from_opaque(text, key))
    except ValueError:
        print("refused")
