// The JavaScript guest of `scripts/bench --languages`: a short text for every request.
addEventListener('fetch', (event) =>
  event.respondWith(new Response('hello from JavaScript\n', { headers: { 'content-type': 'text/plain' } })));
