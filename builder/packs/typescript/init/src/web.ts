// Answers requests. What stands outside of fetch is run when an instance starts, with the app's config.
import { greet } from './greeting';

export default {
  fetch(request: Request, env: Record<string, string>): Response {
    const { pathname } = new URL(request.url);
    switch (pathname) {
      case '/':
        return new Response(`${greet(env.GREETING)}\n`);
      case '/env':
        return Response.json(env);
      default:
        return new Response('no such page\n', { status: 404 });
    }
  },
};
