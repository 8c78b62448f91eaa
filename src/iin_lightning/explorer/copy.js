// A button that copies the link beside it. `element` is gradio's.
element.addEventListener('click', async event => {
  const button = event.target.closest('button');
  if (!button) return;
  const address = element.querySelector('a').href;
  try {
    await navigator.clipboard.writeText(address);
    button.textContent = 'Copied';
  } catch {  // browsers have a clipboard on secure pages alone
    window.prompt('Link to this state', address);
  }
});
