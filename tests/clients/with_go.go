package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"ids"
	"os"
	"strconv"
	"strings"

	"golang.org/x/crypto/blowfish"
)

func main() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fields := strings.Split(lines.Text(), "\t")
		id, _ := strconv.ParseInt(fields[1], 10, 64)
		text, _ := hex.DecodeString(fields[1])
		key, _ := hex.DecodeString(fields[2])
		cipher, err := blowfish.NewCipher(key)
		if err != nil {
			panic(err)
		}
		ok := true
		switch fields[0] {
		case "decode":
			at, machine, sequence := ids.Decode(id)
			fmt.Println(at.Format("2006-01-02T15:04:05.000Z07:00"), machine, sequence)
			continue
		case "to_text":
			fmt.Println(ids.ToText(id))
			continue
		case "to_opaque":
			fmt.Println(ids.ToOpaque(id, cipher))
			continue
		case "from_text":
			id, ok = ids.FromText(string(text))
		case "from_opaque":
			id, ok = ids.FromOpaque(string(text), cipher)
		}
		if ok {
			fmt.Println(id)
		} else {
			fmt.Println("refused")
		}
	}
}
