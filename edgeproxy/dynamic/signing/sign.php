<?php
$body = json_encode([
    'advId' => 'demo',
    'numbers' => '+493015981100',
    'type' => 'web',
    'fullUrl' => 'https://www.example.com/cars/42?utm_source=newsletter',
    'trackingId' => 'visitor-1',
    'fullReferrer' => 'https://www.example.com/',
    'parameters' => ['custnr' => '1412', 'custname' => 'Autohaus Mitte'],
    'userAgent' => 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
    'requestIpAddress' => '203.0.113.7',
]);
$sign = hash_hmac('sha1', $body, 'freespee');
$request = curl_init('http://127.0.0.1:8080/api');
curl_setopt_array($request, [
    CURLOPT_POSTFIELDS => $body,
    CURLOPT_HTTPHEADER => ["X-SIGN: $sign"],
    CURLOPT_RETURNTRANSFER => true,
]);
echo curl_exec($request), "\n";
