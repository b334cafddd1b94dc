import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

// For work on the page: `TILL_NODE=http://127.0.0.1:7800 TILL_TOKEN=… npm run dev` asks that node.
const node = process.env.TILL_NODE;
const token = process.env.TILL_TOKEN;

export default defineConfig({
  base: '/till/',
  plugins: [svelte()],
  build: {
    target: 'es2022',
    // Nothing inline: the page's policy allows none.
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    modulePreload: false,
    rollupOptions: {
      output: {
        entryFileNames: 'till.js',
        inlineDynamicImports: true,
        assetFileNames: (asset) => (asset.names.some((name) => name.endsWith('.css')) ? 'till.css' : '[name][extname]'),
      },
    },
  },
  server: node
    ? { proxy: { '/v1': { target: node, changeOrigin: true, headers: { authorization: `Bearer ${token ?? ''}`, origin: node } } } }
    : {},
  test: { include: ['tests/**/*.test.ts'] },
});
