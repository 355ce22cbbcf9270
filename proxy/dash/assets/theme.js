// Runs before anything is painted, so that a chosen theme does not flash.
try {
  const chosen = localStorage.getItem('nearside.theme');
  if (chosen === 'dark' || chosen === 'light') document.documentElement.dataset.theme = chosen;
} catch { /* storage is off: the system's theme */ }
