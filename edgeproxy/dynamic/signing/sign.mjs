import { createHmac } from 'node:crypto'

const body = JSON.stringify({
  advId: 'demo',
  numbers: '+493015981100',
  type: 'web',
  fullUrl: 'https://www.example.com/cars/42?utm_source=newsletter',
  trackingId: 'visitor-1',
  fullReferrer: 'https://www.example.com/',
  parameters: { custnr: '1412', custname: 'Autohaus Mitte' },
  userAgent: 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
  requestIpAddress: '203.0.113.7',
})
const sign = createHmac('sha1', 'freespee').update(body).digest('hex')
const answer = await fetch('http://127.0.0.1:8080/api', { method: 'POST', headers: { 'X-SIGN': sign }, body })
console.log(await answer.text())
