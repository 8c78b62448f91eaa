// A map of points on a canvas: pointing at one shows its image, a click chooses it. On a touch screen the first tap shows
// it, the second one chooses. `element`, `props`, `trigger` and `watch` are gradio's.
const [canvas, card, legend] = ['.iin-map > canvas', '.iin-card', '.iin-legend'].map(name => element.querySelector(name));
const paper = canvas.getContext('2d'), thumbnail = card.querySelector('canvas'), caption = card.querySelector('figcaption');
const MARGIN = 14, LARGE = 96;
let data = null, near = -1, only = null, places = [], order = [];

function place() {
  const width = canvas.clientWidth, height = canvas.clientHeight, ratio = window.devicePixelRatio || 1;
  if (!data || !width) return;
  canvas.width = width * ratio; canvas.height = height * ratio;
  paper.setTransform(ratio, 0, 0, ratio, 0, 0);
  places = data.points.map(([x, y]) => [MARGIN + x * (width - 2 * MARGIN), MARGIN + (1 - y) * (height - 2 * MARGIN)]);
  order = places.map((_, i) => i).sort((i, j) => places[i][0] - places[j][0]);
  draw();
}

const color = i => data.colors.at(data.classes[i]);  // -1 is the last one

function dot(i, radius) {
  paper.beginPath();
  paper.arc(...places[i], radius, 0, 2 * Math.PI);
  paper.fillStyle = color(i);
  paper.fill();
}

function ring(i, radius) {
  dot(i, radius);
  paper.lineWidth = 2;
  paper.strokeStyle = getComputedStyle(canvas).color;
  paper.stroke();
}

function draw() {
  paper.clearRect(0, 0, canvas.width, canvas.height);
  const radius = places.length > 800 ? 3 : 4;
  places.forEach((_, i) => {
    paper.globalAlpha = only === null || data.classes[i] === only ? 0.8 : 0.08;
    dot(i, radius);
  });
  paper.globalAlpha = 1;
  const chosen = data.items.indexOf(data.chosen);
  if (chosen >= 0) ring(chosen, radius + 3);
  if (near >= 0) ring(near, radius + 2);
}

function nearest(event, reach) {
  const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  let found = -1, least = reach * reach;
  places.forEach(([px, py], i) => {
    const distance = (px - x) ** 2 + (py - y) ** 2;
    if (distance < least && (only === null || data.classes[i] === only)) [found, least] = [i, distance];
  });
  return found;
}

function show(i) {
  if (i === near) return;
  near = i;
  card.hidden = i < 0;
  canvas.style.cursor = i < 0 ? 'default' : 'pointer';
  if (i >= 0) {
    const sheet = document.querySelector('#map-sprite img'), pen = thumbnail.getContext('2d');
    thumbnail.width = thumbnail.height = LARGE;
    pen.imageSmoothingEnabled = false;
    const from = [(i % data.across) * data.cell, Math.floor(i / data.across) * data.cell];
    if (sheet && sheet.complete) pen.drawImage(sheet, ...from, data.cell, data.cell, 0, 0, LARGE, LARGE);
    const name = data.names[data.classes[i]];
    caption.textContent = `image ${data.items[i]}` + (name === undefined ? '' : `, ${data.concept.replaceAll('_', ' ')} ${name}`);
    const [x, y] = places[i], right = x > canvas.clientWidth / 2, below = y < canvas.clientHeight / 2;
    card.style.left = `${x + (right ? -14 - card.offsetWidth : 14)}px`;
    card.style.top = `${y + (below ? 14 : -14 - card.offsetHeight)}px`;
  }
  draw();
}

function choose(i) {
  data.chosen = data.items[i];
  draw();
  trigger('select', {item: data.items[i]});
}

canvas.addEventListener('pointermove', event => event.pointerType === 'mouse' && data && show(nearest(event, 14)));
canvas.addEventListener('pointerleave', event => event.pointerType === 'mouse' && data && show(-1));
canvas.addEventListener('click', event => {
  if (!data) return;
  const touched = event.pointerType === 'touch', i = nearest(event, touched ? 26 : 14), known = i === near;
  show(i);
  if (i >= 0 && (known || !touched)) choose(i);
});
canvas.addEventListener('keydown', event => {
  const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
  if (!data || (!step && event.key !== 'Enter')) return;
  event.preventDefault();
  if (!step) { if (near >= 0) choose(near); return; }
  const at = order.indexOf(near), count = order.length;
  show(order[at < 0 ? 0 : (at + step + count) % count]);
});

// Those of a class alone, as long as its name is pointed at; a click keeps them.
let kept = null;
const dim = to => { only = to; draw(); };
const classOf = event => { const key = event.target.closest('[data-class]'); return key && Number(key.dataset.class); };
legend.addEventListener('pointerover', event => event.pointerType === 'mouse' && dim(classOf(event) ?? kept));
legend.addEventListener('pointerleave', event => event.pointerType === 'mouse' && dim(kept));
legend.addEventListener('click', event => {
  const clicked = classOf(event);
  if (clicked === null) return;
  kept = kept === clicked ? null : clicked;
  legend.querySelectorAll('[data-class]').forEach(key => key.setAttribute('aria-pressed', Number(key.dataset.class) === kept));
  dim(kept);
});

function name() {
  legend.replaceChildren(...data.names.flatMap((text, k) => {
    if (!data.classes.includes(k)) return [];
    const key = document.createElement('button'), spot = document.createElement('i');
    key.type = 'button'; key.dataset.class = k; key.setAttribute('aria-pressed', 'false');
    spot.style.background = data.colors[k];
    key.append(spot, text);
    return [key];
  }));
}

function take() {
  const same = data && JSON.stringify(data.names) === JSON.stringify(props.value?.names);
  const still = data && String(data.points) === String(props.value?.points);
  data = props.value ? {...props.value} : null;
  if (!data) return;
  if (!same) only = kept = null;
  if (!same || !legend.children.length) name();
  if (!still) { card.hidden = true; near = -1; }  // who chooses with the keyboard goes on from there
  place();
}

watch('value', take);
new ResizeObserver(place).observe(canvas);
take();
