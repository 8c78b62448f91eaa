// Images that are clicked, the chosen ones marked; `roles` are what these are called. `element`, `props`, `trigger` and
// `watch` are gradio's.
const mark = () => element.querySelectorAll('[data-place]').forEach(button => {
  const places = props.chosen ?? [], place = Number(button.dataset.place);
  const mine = roles.filter((role, i) => places[i] === place);
  button.setAttribute('aria-pressed', places.includes(place));
  button.setAttribute('aria-description', mine.join(' and '));
  button.dataset.role = mine.length > 1 ? 'both' : mine.join();
});
element.addEventListener('click', event => {
  const button = event.target.closest('[data-place]');
  if (button) trigger('click', {place: Number(button.dataset.place)});
});
watch(['value', ...Object.keys({chosen: 0})], mark);  // a word in quotes gradio takes for the name of an event
mark();
