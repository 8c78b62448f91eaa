// A sheet to draw a sketch on with a mouse, a pen or a finger. Its value is a picture as a data URI, the base64 of a PNG, or
// the name of a sketch that comes with the project. `element`, `props`, `trigger` and `watch` are gradio's.
const COME = /*SKETCHES*/{};
const canvas = element.querySelector('canvas'), pen = canvas.getContext('2d', {willReadFrequently: true});
const SIDE = canvas.width, MOST = 20;
let last = null, before = [];

function clear() {
  pen.fillStyle = '#fff';
  pen.fillRect(0, 0, SIDE, SIDE);
}

function tell() {
  props.value = canvas.toDataURL('image/png');
  trigger('input');
}

function keep() {
  before.push(pen.getImageData(0, 0, SIDE, SIDE));
  before = before.slice(-MOST);
}

function at(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * SIDE / box.width, (event.clientY - box.top) * SIDE / box.height];
}

function stroke(to) {
  [pen.lineWidth, pen.lineCap, pen.lineJoin, pen.strokeStyle] = [5, 'round', 'round', '#000'];
  pen.beginPath();
  pen.moveTo(...last);
  pen.lineTo(...to);
  pen.stroke();
  last = to;
}

function take() {
  const value = props.value, picture = new Image();
  if (!value) return clear();
  picture.onload = () => { clear(); pen.drawImage(picture, 0, 0, SIDE, SIDE); };
  picture.src = COME[value] ?? (value.startsWith('data:') ? value : `data:image/png;base64,${value}`);
}

canvas.addEventListener('pointerdown', event => {
  if (event.button) return;
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  keep();
  last = at(event);
  stroke(last);
});
canvas.addEventListener('pointermove', event => {
  if (!last) return;
  const passed = event.getCoalescedEvents?.() ?? [];
  (passed.length ? passed : [event]).forEach(one => stroke(at(one)));
});
for (const end of ['pointerup', 'pointercancel']) {
  canvas.addEventListener(end, () => { if (last) { last = null; tell(); } });
}

element.addEventListener('click', event => {
  const tool = event.target.closest('[data-tool]')?.dataset.tool;
  if (!tool) return;
  if (tool === 'undo') {
    if (!before.length) return;
    pen.putImageData(before.pop(), 0, 0);
    return tell();
  }
  keep();
  if (tool === 'clear') { clear(); return tell(); }
  props.value = tool;
  take();
  trigger('input');
});

watch('value', () => { before = []; take(); });
clear();
take();
