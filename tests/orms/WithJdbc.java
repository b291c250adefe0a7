// JDBC: generated keys one by one and in batches. The driver knows TCP only, so the server's socket is handed to it.
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.Socket;
import java.net.SocketAddress;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.Channels;
import java.nio.channels.SocketChannel;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import javax.net.SocketFactory;

public final class WithJdbc {
    private static final int MANY = 2000;
    private static Connection db;

    public static void main(String[] arguments) throws Exception {
        db = connect("false");
        try (Statement statement = db.createStatement()) {
            statement.execute("CREATE TABLE jdbc_authors (id bigint DEFAULT idgen_next() PRIMARY KEY, name text NOT NULL)");
            statement.execute("CREATE TABLE jdbc_books (id bigserial PRIMARY KEY, title text,"
                + " author_id bigint REFERENCES jdbc_authors)");
            statement.execute("CREATE TABLE jdbc_log (id bigserial PRIMARY KEY, written timestamptz DEFAULT now())");
            refused("A result was returned", () -> statement.executeUpdate("SELECT idgen_adopt('jdbc_books', 'id')"));
            ResultSet adopted = statement.executeQuery("SELECT count(*) FROM idgen_columns() WHERE relation = 'jdbc_books'::regclass");
            check(adopted.next() && adopted.getInt(1) == 1);   // done all the same, where each statement is a transaction
            check(statement.execute("SELECT idgen_abandon('jdbc_books', 'id')"));
            check(statement.execute("SELECT idgen_adopt('jdbc_books', 'id')"));
        }
        oneByOne();
        inBatches();
        withIdsFirst();
        lastval();
        described();
        db.close();
    }

    private static void oneByOne() throws SQLException {
        List<Long> ids = new ArrayList<>();
        try (PreparedStatement insert = db.prepareStatement("INSERT INTO jdbc_authors (name) VALUES (?)", new String[] {"id"})) {
            insert.setString(1, "Le Guin");
            check(insert.executeUpdate() == 1);
            ids.addAll(keys(insert));
        }
        try (PreparedStatement insert = db.prepareStatement("INSERT INTO jdbc_books (title, author_id) VALUES (?, ?)",
                Statement.RETURN_GENERATED_KEYS)) {   // of an adopted key; all columns come back
            insert.setString(1, "The Telling");
            insert.setLong(2, ids.get(0));
            check(insert.executeUpdate() == 1);
            ResultSet row = insert.getGeneratedKeys();
            check(row.next() && row.getMetaData().getColumnCount() == 3);
            ids.add(row.getLong("id"));
        }
        try (PreparedStatement insert = db.prepareStatement("INSERT INTO jdbc_authors (name) VALUES (?) RETURNING id")) {
            insert.setString(1, "Lem");
            ResultSet row = insert.executeQuery();
            check(row.next());
            ids.add(row.getLong(1));
        }
        check(ids.size() == 3);
        madeByIdgen(ids);
    }

    private static void inBatches() throws SQLException {
        int named = batch(db, new String[] {"id"});
        int all = batch(db, null);
        check(named < MANY / 10 && all >= MANY);
        try (Connection rewriting = connect("true")) {
            check(batch(rewriting, new String[] {"id"}) < MANY / 10);
        }
    }

    /** Inserts many rows, which must get their ids in their order, and says how often the driver wrote to the server. */
    private static int batch(Connection on, String[] columns) throws SQLException {
        String sql = "INSERT INTO jdbc_authors (name) VALUES (?)";
        int before = ServerSocket.written;
        List<Long> ids;
        try (PreparedStatement insert = columns == null
                ? on.prepareStatement(sql, Statement.RETURN_GENERATED_KEYS) : on.prepareStatement(sql, columns)) {
            for (int i = 0; i < MANY; i++) {
                insert.setString(1, "author " + i);
                insert.addBatch();
            }
            insert.executeBatch();
            ids = keys(insert);
        }
        int written = ServerSocket.written - before;
        check(ids.size() == MANY);
        madeByIdgen(ids);
        try (PreparedStatement select = on.prepareStatement("SELECT name FROM unnest(?) WITH ORDINALITY AS inserted (id, place)"
                + " JOIN jdbc_authors USING (id) ORDER BY place")) {
            select.setArray(1, on.createArrayOf("bigint", ids.toArray()));
            ResultSet row = select.executeQuery();
            for (int i = 0; i < MANY; i++) {
                check(row.next() && row.getString(1).equals("author " + i));
            }
        }
        return written;
    }

    /** Ids that are known before the rows are there: a parent and its children in one go, and no keys to bring back. */
    private static void withIdsFirst() throws SQLException {
        List<Long> ids = new ArrayList<>();
        try (PreparedStatement select = db.prepareStatement("SELECT idgen_next_many(?)")) {
            select.setInt(1, 1 + MANY);
            for (ResultSet row = select.executeQuery(); row.next();) {
                ids.add(row.getLong(1));
            }
        }
        madeByIdgen(ids);
        try (PreparedStatement author = db.prepareStatement("INSERT INTO jdbc_authors (id, name) VALUES (?, 'Verne')");
             PreparedStatement book = db.prepareStatement("INSERT INTO jdbc_books (id, author_id) VALUES (?, ?)")) {
            author.setLong(1, ids.get(0));
            author.executeUpdate();
            for (long id : ids.subList(1, ids.size())) {
                book.setLong(1, id);
                book.setLong(2, ids.get(0));
                book.addBatch();
            }
            check(book.executeBatch().length == MANY);
        }
    }

    /** It tells of sequences only: nothing of the new key, or the number of another table's row. */
    private static void lastval() throws SQLException {
        try (Connection fresh = connect("false"); Statement statement = fresh.createStatement()) {
            statement.execute("INSERT INTO jdbc_books (title) VALUES ('Rocannon''s World')");
            refused("lastval is not yet defined", () -> statement.executeQuery("SELECT lastval()"));
            statement.execute("CREATE FUNCTION jdbc_write() RETURNS trigger LANGUAGE plpgsql AS"
                + " 'BEGIN INSERT INTO jdbc_log DEFAULT VALUES; RETURN NULL; END'");
            statement.execute("CREATE TRIGGER log AFTER INSERT ON jdbc_authors EXECUTE FUNCTION jdbc_write()");
            statement.execute("INSERT INTO jdbc_authors (name) VALUES ('Butler')");
            ResultSet row = statement.executeQuery("SELECT lastval(), (SELECT id FROM jdbc_log), currval('jdbc_log_id_seq')");
            check(row.next() && row.getLong(1) == 1 && row.getLong(2) == 1);
        }
    }

    /** What tools that read a schema through the driver see: a default, and no autoincrement key. */
    private static void described() throws SQLException {
        for (String table : List.of("jdbc_authors", "jdbc_books", "jdbc_log")) {
            ResultSet column = db.getMetaData().getColumns(null, "public", table, "id");
            check(column.next());
            boolean ours = !table.equals("jdbc_log");
            check(column.getString("COLUMN_DEF").contains("idgen_next(") == ours);
            check(column.getString("IS_AUTOINCREMENT").equals(ours ? "NO" : "YES"));
        }
    }

    private static List<Long> keys(Statement statement) throws SQLException {
        List<Long> ids = new ArrayList<>();
        for (ResultSet row = statement.getGeneratedKeys(); row.next();) {
            ids.add(row.getLong("id"));
        }
        return ids;
    }

    private static void madeByIdgen(List<Long> ids) throws SQLException {
        check(new HashSet<>(ids).size() == ids.size());
        try (PreparedStatement select = db.prepareStatement("SELECT made_by_idgen(?)")) {
            select.setArray(1, db.createArrayOf("bigint", ids.toArray()));
            ResultSet row = select.executeQuery();
            check(row.next() && row.getBoolean(1));
        }
    }

    private interface Call {
        void run() throws SQLException;
    }

    private static void refused(String message, Call call) {
        try {
            call.run();
        } catch (SQLException error) {
            if (error.getMessage().contains(message)) {
                return;
            }
            throw new AssertionError("refused otherwise", error);
        }
        throw new AssertionError("not refused");
    }

    private static void check(boolean held) {
        if (!held) {
            throw new AssertionError();
        }
    }

    private static Connection connect(String rewrite) throws SQLException {
        Map<String, String> environment = System.getenv();
        Properties properties = new Properties();
        properties.setProperty("user", environment.get("PGUSER"));
        properties.setProperty("sslmode", "disable");
        properties.setProperty("reWriteBatchedInserts", rewrite);
        properties.setProperty("socketFactory", ServerSockets.class.getName());
        properties.setProperty("socketFactoryArg", environment.get("PGHOST") + "/.s.PGSQL." + environment.get("PGPORT"));
        return DriverManager.getConnection("jdbc:postgresql://localhost/" + environment.get("PGDATABASE"), properties);
    }

    public static final class ServerSockets extends SocketFactory {
        private final Path path;

        public ServerSockets(String path) {
            this.path = Path.of(path);
        }

        @Override public Socket createSocket() {
            return new ServerSocket(path);
        }

        @Override public Socket createSocket(String host, int port) {
            throw new UnsupportedOperationException();
        }

        @Override public Socket createSocket(String host, int port, InetAddress from, int fromPort) {
            throw new UnsupportedOperationException();
        }

        @Override public Socket createSocket(InetAddress host, int port) {
            throw new UnsupportedOperationException();
        }

        @Override public Socket createSocket(InetAddress host, int port, InetAddress from, int fromPort) {
            throw new UnsupportedOperationException();
        }
    }

    private static final class ServerSocket extends Socket {
        static int written;
        private final Path path;
        private SocketChannel channel;

        ServerSocket(Path path) {
            this.path = path;
        }

        @Override public void connect(SocketAddress ignored, int timeout) throws IOException {
            channel = SocketChannel.open(UnixDomainSocketAddress.of(path));
        }

        @Override public boolean isConnected() {
            return channel != null;
        }

        @Override public InputStream getInputStream() {
            return Channels.newInputStream(channel);
        }

        @Override public OutputStream getOutputStream() {
            OutputStream out = Channels.newOutputStream(channel);
            return new OutputStream() {
                @Override public void write(int one) throws IOException {
                    write(new byte[] {(byte) one}, 0, 1);
                }

                @Override public void write(byte[] bytes, int from, int length) throws IOException {
                    written++;
                    out.write(bytes, from, length);
                }
            };
        }

        @Override public void close() throws IOException {
            channel.close();
        }

        @Override public boolean isClosed() {
            return !channel.isOpen();
        }
    }
}
