// Rules, network and search for a page in the browser. Needs onnxruntime-web, which the caller imports and hands over:
//
//     import * as ort from "…/onnxruntime-web/dist/ort.wasm.min.mjs";
//     const network = await loadNetwork(ort, "model.onnx");   // an address, or the bytes of a file
//     const root = await search(network, network.game.start(), 128);
//     console.log(root.best(), root.value());
//
// Actions and observations are those of the games that networks are trained on; tests compare them ply by ply.

class InARow {
  // `length` in a row win. Action = row * columns + column; where stones drop, action = column.
  constructor(name, rows, columns, length, drops) {
    Object.assign(this, { name, rows, columns, length, drops });
  }

  start() {
    return { board: new Uint8Array(this.rows * this.columns), player: 0, result: null };
  }

  // Where the stone of an action comes to lie, -1 where nothing is free.
  cell(position, action) {
    if (!this.drops) return position.board[action] ? -1 : action;
    for (let row = this.rows - 1; row >= 0; row--) {
      if (!position.board[row * this.columns + action]) return row * this.columns + action;
    }
    return -1;
  }

  // Actions, in order, of a game that goes on.
  legal(position) {
    const count = this.drops ? this.columns : this.rows * this.columns;
    return [...Array(count).keys()].filter((action) => this.cell(position, action) >= 0);
  }

  // `result`: 1 when player 0 has won, -1 when player 1 has, 0 when drawn, null while the game goes on.
  play(position, action) {
    const board = position.board.slice();
    const cell = this.cell(position, action);
    board[cell] = position.player + 1;
    const line = this.line(board, cell);
    const result = line.length ? 1 - 2 * position.player : board.includes(0) ? null : 0;
    return { board, player: 1 - position.player, result, line, last: cell };
  }

  // The cells of a winning line through a cell, or none.
  line(board, cell) {
    for (const [down, right] of [[0, 1], [1, 0], [1, 1], [1, -1]]) {
      const run = [cell];
      for (const way of [1, -1]) {
        let row = Math.floor(cell / this.columns) + way * down;
        let column = (cell % this.columns) + way * right;
        while (row >= 0 && row < this.rows && column >= 0 && column < this.columns) {
          if (board[row * this.columns + column] !== board[cell]) break;
          run.push(row * this.columns + column);
          row += way * down;
          column += way * right;
        }
      }
      if (run.length >= this.length) return run;
    }
    return [];
  }

  // Planes last: stones of the mover, stones of the other.
  observe(position) {
    const seen = new Float32Array(2 * position.board.length);
    position.board.forEach((stone, cell) => {
      if (stone) seen[2 * cell + (stone === position.player + 1 ? 0 : 1)] = 1;
    });
    return seen;
  }

  // As the command line writes it: columns from 1, or squares with a1 at the bottom left.
  moveName(action) {
    if (this.drops) return String(action + 1);
    return "abc"[action % this.columns] + (this.rows - Math.floor(action / this.columns));
  }
}

// By the shape of the network's input.
export const GAMES = {
  "3,3,2": new InARow("tic-tac-toe", 3, 3, 3, false),
  "6,7,2": new InARow("Connect Four", 6, 7, 4, true),
};

export async function loadNetwork(ort, model) {
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  const shape = session.inputMetadata[0].shape.slice(1);
  const game = GAMES[shape];
  if (!game) throw new Error(`This page plays tic-tac-toe and Connect Four; the network sees positions of [${shape}].`);
  if (!session.outputNames.includes("logits")) throw new Error("This file is a part of a network: it gives no moves.");

  // Positions -> [{logits, value}], the value as the player to move sees it.
  async function evaluate(positions) {
    const seen = new Float32Array(positions.length * shape.reduce((a, b) => a * b));
    positions.forEach((position, i) => seen.set(game.observe(position), (i * seen.length) / positions.length));
    const input = new ort.Tensor("float32", seen, [positions.length, ...shape]);
    const { logits, value } = await session.run({ [session.inputNames[0]]: input });
    const actions = logits.dims[1];
    return positions.map((_, i) => ({
      logits: logits.data.slice(i * actions, (i + 1) * actions),
      value: value.data[i],
    }));
  }
  const network = { game, evaluate };
  await search(network, game.start(), 0);
  return network;
}

const C_PUCT = 1.5;

class Node {
  constructor(position) {
    Object.assign(this, { position, actions: [], priors: [], children: [], visits: 0, total: 0, pending: 0 });
  }

  sign() {
    return 1 - 2 * this.position.player;
  }

  // Mean return for the player to move.
  value() {
    return (this.sign() * this.total) / this.visits;
  }

  counts() {
    return this.children.map((child) => (child ? child.visits : 0));
  }

  // The action visited most; among equals, and without a search, the likeliest one.
  best() {
    const counts = this.counts();
    const better = (i, j) => counts[i] - counts[j] || this.priors[i] - this.priors[j];
    return this.actions[counts.reduce((most, _, i) => (better(i, most) > 0 ? i : most), 0)];
  }

  // Index of the child with the highest value + exploration; one not yet visited is worth what this node is.
  select() {
    const explore = C_PUCT * Math.sqrt(this.visits + this.pending);
    const scores = this.children.map((child, i) => {
      if (!child) return this.value() + explore * this.priors[i];
      const visits = child.visits + child.pending;
      return (this.sign() * child.total - child.pending) / visits + (explore * this.priors[i]) / (1 + visits);
    });
    return scores.indexOf(Math.max(...scores));
  }
}

async function expand(network, paths) {
  if (!paths.length) return;
  const said = await network.evaluate(paths.map((path) => path.at(-1).position));
  paths.forEach((path, i) => {
    const leaf = path.at(-1);
    leaf.actions = network.game.legal(leaf.position);
    const scores = leaf.actions.map((action) => said[i].logits[action]);
    const weights = scores.map((score) => Math.exp(score - Math.max(...scores)));
    const sum = weights.reduce((a, b) => a + b);
    if (!Number.isFinite(sum + said[i].value)) throw new Error("The network's answers are no numbers; it cannot play.");
    leaf.priors = weights.map((weight) => weight / sum);
    leaf.children = weights.map(() => null);
    backUp(path, leaf.sign() * said[i].value);
  });
}

function backUp(path, value) {
  for (const node of path) {
    node.visits += 1;
    node.total += value;
  }
}

function descend(game, root) {
  const path = [root];
  while (path.at(-1).actions.length) {
    const node = path.at(-1);
    const i = node.select();
    node.children[i] ??= new Node(game.play(node.position, node.actions[i]));
    path.push(node.children[i]);
  }
  return path;
}

// The search of play_torch.py: PUCT, up to `batch` leaves for one call of the network, those that wait counted as lost.
export async function search(network, position, simulations, batch = 8) {
  const root = new Node(position);
  await expand(network, [[root]]);
  let done = 0;
  while (done < simulations) {
    const waiting = [];
    for (let left = Math.min(batch, simulations - done); left > 0; left--) {
      const path = descend(network.game, root);
      const leaf = path.at(-1);
      if (leaf.pending) break;
      done += 1;
      if (leaf.position.result !== null) {
        backUp(path, leaf.position.result);
        continue;
      }
      waiting.push(path);
      for (const node of path) node.pending += 1;
    }
    await expand(network, waiting);
    for (const node of waiting.flat()) node.pending -= 1;
  }
  return root;
}
