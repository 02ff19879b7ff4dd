import { queue } from 'gilliam';

// Answers requests. What stands here, outside of fetch, is run when an instance starts, with the app's config.
const greeting = process.env.GREETING ?? 'hello';

const routes = {
  '/': () => new Response(`${greeting} from ${process.env.GILLIAM_APP ?? 'JavaScript'}\n`),
  '/env': (request, env) => Response.json(env),
  '/echo': (request) => new Response(request.body, { headers: { 'content-type': 'application/octet-stream' } }),
  '/sleep': async (request) => {
    const ms = Number(new URL(request.url).searchParams.get('ms') ?? 100);
    await new Promise((resolve) => setTimeout(resolve, ms));
    return new Response(`slept ${ms} ms\n`);
  },
  '/stream': () => {
    const lines = new ReadableStream({
      async start(controller) {
        for (const line of ['one\n', 'two\n', 'three\n']) {
          controller.enqueue(new TextEncoder().encode(line));
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
        controller.close();
      },
    });
    return new Response(lines, { headers: { 'content-type': 'text/plain' } });
  },
  '/fetch': async (request) => {
    const url = new URL(request.url).searchParams.get('url');
    const answer = await fetch(url);
    return new Response(`${answer.status}\n${await answer.text()}`);
  },
  '/mails': async (request) => Response.json(await queue('mails').put(await request.json()), { status: 202 }),
  '/throw': () => {
    throw new Error('thrown on purpose');
  },
};

export default {
  fetch(request, env) {
    const { pathname } = new URL(request.url);
    console.log(request.method, pathname);
    return routes[pathname]?.(request, env) ?? new Response('no such page\n', { status: 404 });
  },
};
