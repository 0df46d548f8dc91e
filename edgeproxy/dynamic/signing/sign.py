import hashlib
import hmac
import json
from urllib.request import Request, urlopen

page = {
    "advId": "demo",
    "numbers": "+493015981100",
    "type": "web",
    "fullUrl": "https://www.example.com/cars/42?utm_source=newsletter",
    "trackingId": "visitor-1",
    "fullReferrer": "https://www.example.com/",
    "parameters": {"custnr": "1412", "custname": "Autohaus Mitte"},
    "userAgent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "requestIpAddress": "203.0.113.7",
}
body = json.dumps(page).encode()
sign = hmac.new(b"freespee", body, hashlib.sha1).hexdigest()
with urlopen(Request("http://127.0.0.1:8080/api", body, {"X-SIGN": sign})) as answer:
    print(answer.read().decode())
