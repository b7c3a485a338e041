// npx eslint -c tests/eslint.config.mjs gan_nb/stage.js tests/stage.test.mjs
const browser = ["document", "window", "navigator", "performance", "matchMedia", "getComputedStyle", "requestAnimationFrame",
  "cancelAnimationFrame", "setTimeout", "clearTimeout", "ResizeObserver", "IntersectionObserver", "MutationObserver", "URL",
  "encodeURIComponent", "Blob", "Response", "TextDecoder", "DecompressionStream", "atob"];
const rules = ["no-undef", "no-unused-vars", "no-var", "prefer-const", "eqeqeq", "no-redeclare", "no-unreachable", "no-dupe-keys",
  "no-dupe-class-members", "no-self-assign", "no-fallthrough", "no-cond-assign", "no-constant-condition", "no-unsafe-negation",
  "use-isnan", "valid-typeof", "no-shadow-restricted-names", "no-const-assign", "no-import-assign", "no-sparse-arrays"];

export default [{
  languageOptions: { sourceType: "module", globals: Object.fromEntries(browser.map((name) => [name, "readonly"])) },
  rules: Object.fromEntries(rules.map((name) => [name, "error"])),
}];
