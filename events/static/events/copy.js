// Buttons that copy the text of an element, or the value of a field, and say so; and this service's address in commands.

for (const place of document.querySelectorAll(".origin")) place.textContent = location.origin;

for (const button of document.querySelectorAll("[data-copies]")) {
  const said = button.textContent;
  button.addEventListener("click", async () => {
    const place = document.getElementById(button.dataset.copies);
    try {
      await navigator.clipboard.writeText(place.value ?? place.textContent);
      button.textContent = "Copied";
    } catch { // by plain HTTP from another machine pages may not write the clipboard, but users may
      if (place.select) place.select();
      else getSelection().selectAllChildren(place);
      button.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
    }
    setTimeout(() => { button.textContent = said; }, 2000);
  });
}
