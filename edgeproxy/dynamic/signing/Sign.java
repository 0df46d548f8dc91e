import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public class Sign {
    public static void main(String[] arguments) throws Exception {
        byte[] body = """
            {
              "advId": "demo",
              "numbers": "+493015981100",
              "type": "web",
              "fullUrl": "https://www.example.com/cars/42?utm_source=newsletter",
              "trackingId": "visitor-1",
              "fullReferrer": "https://www.example.com/",
              "parameters": {"custnr": "1412", "custname": "Autohaus Mitte"},
              "userAgent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
              "requestIpAddress": "203.0.113.7"
            }""".getBytes(StandardCharsets.UTF_8);
        Mac mac = Mac.getInstance("HmacSHA1");
        mac.init(new SecretKeySpec("freespee".getBytes(StandardCharsets.UTF_8), "HmacSHA1"));
        String sign = HexFormat.of().formatHex(mac.doFinal(body));
        HttpRequest request = HttpRequest.newBuilder(URI.create("http://127.0.0.1:8080/api"))
            .header("X-SIGN", sign)
            .POST(HttpRequest.BodyPublishers.ofByteArray(body))
            .build();
        HttpClient client = HttpClient.newHttpClient();
        System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
    }
}
