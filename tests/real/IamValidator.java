import java.net.URI;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import javax.security.auth.callback.Callback;
import javax.security.auth.callback.UnsupportedCallbackException;
import javax.security.auth.login.AppConfigurationEntry;
import org.apache.kafka.common.security.auth.AuthenticateCallbackHandler;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerToken;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallback;

/**
 * Checks tokens as Amazon MSK's brokers are documented to: a presigned request for kafka-cluster:Connect, with a signature of
 * version 4 that is computed here again (IAM User Guide, "Create a signed AWS API request"), of one access key, within its time.
 */
public final class IamValidator implements AuthenticateCallbackHandler {
    private static final String KEY = System.getenv("TEST_ACCESS_KEY_ID");
    private static final String SECRET = System.getenv("TEST_SECRET_ACCESS_KEY");
    private static final String REGION = System.getenv("TEST_REGION");
    private static final DateTimeFormatter TIME =
        DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'").withZone(ZoneOffset.UTC);

    @Override
    public void configure(Map<String, ?> configs, String mechanism, List<AppConfigurationEntry> entries) {}

    @Override
    public void close() {}

    @Override
    public void handle(Callback[] callbacks) throws UnsupportedCallbackException {
        for (Callback callback : callbacks) {
            if (!(callback instanceof OAuthBearerValidatorCallback validation)) {
                throw new UnsupportedCallbackException(callback);
            }
            try {
                validation.token(check(validation.tokenValue()));
            } catch (Exception error) {
                validation.error("Access denied: " + error.getMessage(), null, null);
            }
        }
    }

    private static OAuthBearerToken check(String token) throws Exception {
        URI url = new URI(new String(Base64.getUrlDecoder().decode(token), StandardCharsets.UTF_8));
        String host = "kafka." + REGION + ".amazonaws.com";
        equal("https://" + host + "/", url.getScheme() + "://" + url.getHost() + url.getPath());
        TreeMap<String, String> query = new TreeMap<>();
        for (String pair : url.getRawQuery().split("&")) {
            String[] parts = pair.split("=", 2);
            query.put(parts[0], URLDecoder.decode(parts[1], StandardCharsets.UTF_8));
        }
        String signature = query.remove("X-Amz-Signature");
        query.remove("User-Agent");
        Instant signed = TIME.parse(query.get("X-Amz-Date"), Instant::from);
        Instant expires = signed.plusSeconds(Long.parseLong(query.get("X-Amz-Expires")));
        String day = query.get("X-Amz-Date").substring(0, 8);
        String scope = day + "/" + REGION + "/kafka-cluster/aws4_request";
        equal("kafka-cluster:Connect", query.get("Action"));
        equal("AWS4-HMAC-SHA256", query.get("X-Amz-Algorithm"));
        equal(KEY + "/" + scope, query.get("X-Amz-Credential"));
        equal("host", query.get("X-Amz-SignedHeaders"));
        equal("900", query.get("X-Amz-Expires"));
        Instant now = Instant.now();
        if (now.isBefore(signed.minusSeconds(60)) || now.isAfter(expires)) {
            throw new IllegalArgumentException("the token is not of this time");
        }
        String canonical = query.entrySet().stream()
            .map(pair -> encode(pair.getKey()) + "=" + encode(pair.getValue()))
            .collect(Collectors.joining("&"));
        String request = "GET\n/\n" + canonical + "\nhost:" + host + "\n\nhost\n" + sha256("");
        String text = "AWS4-HMAC-SHA256\n" + query.get("X-Amz-Date") + "\n" + scope + "\n" + sha256(request);
        byte[] key = ("AWS4" + SECRET).getBytes(StandardCharsets.UTF_8);
        for (String part : List.of(day, REGION, "kafka-cluster", "aws4_request")) {
            key = hmac(key, part);
        }
        equal(HexFormat.of().formatHex(hmac(key, text)), signature);
        return new Token(token, expires.toEpochMilli(), signed.toEpochMilli());
    }

    private static void equal(String wanted, String found) {
        if (!wanted.equals(found)) {
            throw new IllegalArgumentException("the token has " + found + " in place of " + wanted);
        }
    }

    private static String encode(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8).replace("+", "%20").replace("*", "%2A").replace("%7E", "~");
    }

    private static String sha256(String text) throws Exception {
        byte[] hash = MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
        return HexFormat.of().formatHex(hash);
    }

    private static byte[] hmac(byte[] key, String text) throws Exception {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        return mac.doFinal(text.getBytes(StandardCharsets.UTF_8));
    }

    private record Token(String value, long lifetimeMs, Long startTimeMs) implements OAuthBearerToken {
        @Override
        public Set<String> scope() {
            return Set.of();
        }

        @Override
        public String principalName() {
            return KEY;
        }
    }
}
