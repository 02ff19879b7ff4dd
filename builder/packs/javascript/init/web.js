// Answers requests. What stands outside of fetch is run when an instance starts, with the app's config.
const greeting = process.env.GREETING ?? 'hello, world';

export default {
  fetch(request, env) {
    const { pathname } = new URL(request.url);
    switch (pathname) {
      case '/':
        return new Response(`${greeting}\n`);
      case '/env':
        return Response.json(env);
      default:
        return new Response('no such page\n', { status: 404 });
    }
  },
};
