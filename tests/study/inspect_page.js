() => {
  // What is wrong with the screen that is shown: text too faint, controls without a name or too small, things that move.
  const seen = (node) => node.checkVisibility({ opacityProperty: false }) && !node.closest(".unseen, .skip-link");
  const parts = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parts(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] > 0.9) return colour;
    }
    return [255, 255, 255];
  };
  const contrast = (one, other) => (Math.max(light(one), light(other)) + 0.05) / (Math.min(light(one), light(other)) + 0.05);
  const faint = [], nameless = [], small = [], moving = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !seen(node) || node.closest("script, style, noscript, option, [data-locked] .marks")) continue;
    const ratio = contrast(parts(getComputedStyle(node).color), ground(node));
    if (ratio < 4.5) faint.push([text, ratio]);
  }
  for (const node of document.querySelectorAll("button, a, input, select, textarea, video, img, [role=img]")) {
    if (!seen(node) || node.closest("[aria-hidden=true]")) continue;
    const named = node.ariaLabel || node.labels?.length || node.textContent.trim() || node.alt || node.closest("button")?.ariaLabel;
    const shown = node.outerHTML.slice(0, 120);
    if (!named) nameless.push(shown);
    const box = (node.closest("label") ?? node).getBoundingClientRect();
    if (node.matches("button, input, select") && (box.width < 24 || box.height < 24)) small.push([shown, box.width, box.height]);
  }
  for (const node of document.querySelectorAll("body *")) {
    const style = getComputedStyle(node);
    const moves = style.transitionDuration.split(", ").some((s) => parseFloat(s) > 0) || style.animationName !== "none";
    if (moves) moving.push(node.className);
  }
  return {
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth, faint, nameless, small, moving,
    headings: document.querySelectorAll("h1").length, clips: document.querySelectorAll("video").length,
  };
}
