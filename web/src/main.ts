// Starts the page.
import { mount } from 'svelte';
import './app.css';
import App from './App.svelte';
import { keepToken } from './lib/token';

keepToken();
mount(App, { target: document.getElementById('app')! });
