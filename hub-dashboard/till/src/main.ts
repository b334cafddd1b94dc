import { mount } from 'svelte';
import './app.css';
import Customer from './Customer.svelte';
import Till from './Till.svelte';

// Two pages of one address: the till, and what a customer sees of it.
const target = document.body;
if (location.hash === '#customer') mount(Customer, { target });
else mount(Till, { target });
addEventListener('hashchange', () => location.reload());
