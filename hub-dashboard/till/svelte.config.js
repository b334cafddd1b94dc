// For svelte-check, which looks for this file; all is as it comes.
export default {};
