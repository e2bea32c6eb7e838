// pushy's mock of Apple's service with its validating handler, told by arguments what is valid:
// certificate chain, its key, public key of the provider tokens, key id, team id, topic, file of device tokens.
// A line of that file is a token, or a token and the milliseconds of 1970 at which it was unregistered.
// It says its port on the first line, then a line for each notification, and ends when its input does.

import com.eatthepath.pushy.apns.auth.ApnsVerificationKey;
import com.eatthepath.pushy.apns.server.MockApnsServer;
import com.eatthepath.pushy.apns.server.MockApnsServerBuilder;
import com.eatthepath.pushy.apns.server.MockApnsServerListener;
import com.eatthepath.pushy.apns.server.PushNotificationHandler;
import com.eatthepath.pushy.apns.server.PushNotificationHandlerFactory;
import com.eatthepath.pushy.apns.server.RejectionReason;
import com.eatthepath.pushy.apns.server.ValidatingPushNotificationHandlerFactory;
import io.netty.buffer.ByteBuf;
import io.netty.handler.codec.http2.Http2Headers;
import java.io.File;
import java.math.BigInteger;
import java.net.ServerSocket;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;

public final class MockApns {
    public static void main(final String[] args) throws Exception {
        final ApnsVerificationKey key = ApnsVerificationKey.loadFromPkcs8File(new File(args[2]), args[4], args[3]);
        final Set<String> tokens = new HashSet<>();
        final Map<String, Instant> unregistered = new HashMap<>();
        for (final String line : Files.readAllLines(Path.of(args[6]))) {
            final String[] words = line.split(" ");
            tokens.add(words[0]);
            if (words.length > 1) {
                unregistered.put(words[0], Instant.ofEpochMilli(Long.parseLong(words[1])));
            }
        }
        final MockApnsServer server = new MockApnsServerBuilder()
                .setServerCredentials(new File(args[0]), new File(args[1]), null)
                .setHandlerFactory(readingJose(new ValidatingPushNotificationHandlerFactory(
                        Map.of(args[5], tokens), unregistered, Map.of(args[3], key), Map.of(key, Set.of(args[5])))))
                .setListener(new Teller())
                .setUseAlpn(true) // as Apple does
                .build();
        final int port = free();
        server.start(port).get();
        tell("listening", Integer.toString(port));
        while (System.in.read() >= 0) {
            // what is said here means nothing, only its end does
        }
        server.shutdown().get();
        System.exit(0); // the event loops would linger
    }

    // RFC 7518 (3.4) wants R and S side by side in a token's signature, and so do we. Apple reads the DER form
    // as well, and pushy nothing else: its handler gets our signature in that form, the rest as it came.
    private static PushNotificationHandlerFactory readingJose(final PushNotificationHandlerFactory inner) {
        return session -> {
            final PushNotificationHandler handler = inner.buildHandler(session);
            return (headers, payload) -> {
                final CharSequence bearer = headers.get("authorization");
                if (bearer != null) {
                    final String token = bearer.toString();
                    final int dot = token.lastIndexOf('.') + 1;
                    final byte[] der = der(Base64.getUrlDecoder().decode(token.substring(dot)));
                    headers.set("authorization",
                            token.substring(0, dot) + Base64.getUrlEncoder().withoutPadding().encodeToString(der));
                }
                handler.handlePushNotification(headers, payload);
            };
        };
    }

    private static byte[] der(final byte[] jose) {
        final int half = jose.length / 2;
        final byte[] r = new BigInteger(1, Arrays.copyOfRange(jose, 0, half)).toByteArray();
        final byte[] s = new BigInteger(1, Arrays.copyOfRange(jose, half, jose.length)).toByteArray();
        return ByteBuffer.allocate(6 + r.length + s.length)
                .put((byte) 0x30).put((byte) (4 + r.length + s.length))
                .put((byte) 0x02).put((byte) r.length).put(r)
                .put((byte) 0x02).put((byte) s.length).put(s)
                .array();
    }

    private static int free() throws Exception {
        try (ServerSocket socket = new ServerSocket(0)) {
            return socket.getLocalPort();
        }
    }

    private static synchronized void tell(final String... fields) {
        System.out.println(String.join("\t", fields));
        System.out.flush();
    }

    private static final class Teller implements MockApnsServerListener {
        @Override
        public void handlePushNotificationAccepted(final Http2Headers headers, final ByteBuf payload) {
            tell("accepted", "", id(headers), payload.toString(StandardCharsets.UTF_8));
        }

        @Override
        public void handlePushNotificationRejected(
                final Http2Headers headers, final ByteBuf payload, final RejectionReason reason, final Instant since) {
            final String words = payload == null ? "" : payload.toString(StandardCharsets.UTF_8);
            tell("rejected", reason.name(), id(headers), words);
        }

        private static String id(final Http2Headers headers) {
            return String.valueOf(headers.get("apns-id"));
        }
    }
}
