// An Express app as it is written for any other host.
const express = require('express');

const app = express();
app.use(express.json());
app.get('/', (req, res) => res.send(`${process.env.GREETING || 'hello'} from Express\n`));
app.get('/users/:id', (req, res) => res.json({ id: req.params.id, query: req.query }));
app.post('/echo', (req, res) => res.status(201).json(req.body));
app.get('/throw', () => {
  throw new Error('thrown on purpose');
});

if (require.main === module) app.listen(process.env.PORT || 3000, () => console.log('listening'));
