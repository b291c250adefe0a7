import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.format.DateTimeFormatter;
import java.time.ZoneOffset;
import java.util.HexFormat;

final class WithJava {
    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] fields = line.split("\t", -1);
            String answer;
            try {
                answer = answer(fields[0], fields[1], HexFormat.of().parseHex(fields[2]));
            } catch (IllegalArgumentException error) {
                answer = "refused";
            }
            System.out.println(answer);
        }
    }

    private static String answer(String name, String argument, byte[] key) throws Exception {
        String text = name.startsWith("from") ? new String(HexFormat.of().parseHex(argument), StandardCharsets.UTF_8) : "";
        switch (name) {
            case "decode":
                Ids.Parts parts = Ids.decode(Long.parseLong(argument));
                DateTimeFormatter format = DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'").withZone(ZoneOffset.UTC);
                return format.format(parts.time()) + " " + parts.machine() + " " + parts.sequence();
            case "to_text": return Ids.toText(Long.parseLong(argument));
            case "from_text": return Long.toString(Ids.fromText(text));
            case "to_opaque": return OpaqueIds.toOpaque(Long.parseLong(argument), key);
            case "from_opaque": return Long.toString(OpaqueIds.fromOpaque(text, key));
            default: throw new IllegalStateException(name);
        }
    }
}
