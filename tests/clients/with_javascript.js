
const answers = {
    decode(id) {
        const { time, machine, sequence } = decode(BigInt(id));
        return `${time.toISOString()} ${machine} ${sequence}`;
    },
    to_text: id => toText(BigInt(id)),
    from_text: text => fromText(Buffer.from(text, "hex").toString()),
    to_opaque: (id, key) => toOpaque(BigInt(id), Buffer.from(key, "hex")),
    from_opaque: (text, key) => fromOpaque(Buffer.from(text, "hex").toString(), Buffer.from(key, "hex")),
};

for (const line of require("node:fs").readFileSync(0, "utf8").trimEnd().split("\n")) {
    const [name, argument, key] = line.split("\t");
    try {
        console.log(String(answers[name](argument, key)));
    } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        console.log("refused");
    }
}
