import { Hono } from 'hono';
import { logger } from 'hono/logger';
import { type Guest, greet } from './guests';

type Bindings = { GREETING?: string };

const app = new Hono<{ Bindings: Bindings }>();
app.use(logger());
app.get('/', (c) => c.text(greet({ name: 'world' }, c.env.GREETING)));
app.get('/guests/:name', (c) => c.json<Guest>({ name: c.req.param('name') }));
app.post('/guests', async (c) => c.text(greet(await c.req.json<Guest>(), c.env.GREETING), 201));

export default app;
